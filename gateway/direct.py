"""Routes without FastAPI's machinery, for the few that are asked most.

They are declared to FastAPI like all others, which describes them in its document; but a request for
one of them meets the application's own middleware and nothing else, and is answered from a plan that is
made once, at a fraction of what FastAPI spends on solving the same dependencies anew. What a plan can't
have is refused when it is made, not when it is used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from inspect import Parameter, iscoroutinefunction, signature
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fastapi import FastAPI, Request
from fastapi.params import Depends, Header, Path
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

Find = Callable[[Request, Mapping[Any, Any]], Any]
"""Finds one argument. The mapping holds what the dependencies of this request have answered already."""

Endpoint = Callable[..., Awaitable[Response]]


class DirectApp(FastAPI):
    """FastAPI, but for the routes given as method, path and endpoint. Raises TypeError for an endpoint
    with a parameter that no plan can provide."""

    def __init__(self, *direct: tuple[str, str, Endpoint], **options: Any) -> None:
        super().__init__(**options)
        self._direct: dict[str, list[Route]] = {}
        for method, path, endpoint in direct:
            route = Route(path, _Endpoint(endpoint, self.exception_handlers), methods=[method])
            self._direct.setdefault(method, []).append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for route in self._direct.get(scope.get("method", ""), ()):
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope.update(found, route=route, app=self)
                await self._answer(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    @cached_property
    def _answer(self) -> ASGIApp:
        answer: ASGIApp = _handle
        for middleware, arguments, options in reversed(self.user_middleware):
            answer = middleware(answer, *arguments, **options)
        return answer


async def _handle(scope: Scope, receive: Receive, send: Send) -> None:
    await scope["endpoint"](scope, receive, send)


class _Endpoint:
    """An ASGI application; what is raised in it is answered as it is everywhere."""

    def __init__(self, endpoint: Endpoint, handlers: Mapping[Any, Callable[..., Any]]) -> None:
        self._answer = _Plan(endpoint)
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response: Response
        try:
            response = await self._answer(request)
        except Exception as error:
            handle = next((self._handlers[one] for one in type(error).__mro__ if one in self._handlers), None)
            if handle is None:
                raise
            response = await handle(request, error)
        await response(scope, receive, send)


class _Plan:
    """Calls an endpoint, and before it what it depends on, once each, in the order in which it is named."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._steps: dict[Callable[..., Awaitable[Any]], list[tuple[str, Find]]] = {}
        self._add(endpoint)

    async def __call__(self, request: Request) -> Response:
        known: dict[Any, Any] = {}
        for call, arguments in self._steps.items():
            known[call] = await call(**{name: find(request, known) for name, find in arguments})
        response: Response = known[self._endpoint]
        return response

    def _add(self, call: Callable[..., Awaitable[Any]]) -> None:
        function = call if hasattr(call, "__code__") else type(call).__call__
        if not iscoroutinefunction(function):
            raise TypeError(f"a plan awaits what it calls, and {call} is not async")
        hints = get_type_hints(function, include_extras=True)
        arguments = [(name, self._find(one, hints[name])) for name, one in signature(call).parameters.items()]
        self._steps.setdefault(call, arguments)

    def _find(self, parameter: Parameter, hint: Any) -> Find:
        if isinstance(hint, type) and issubclass(Request, hint):
            return lambda request, _: request
        *_, told = get_args(hint) if get_origin(hint) is Annotated else (None,)
        if isinstance(told, Depends) and told.dependency is not None:
            dependency = told.dependency
            self._add(dependency)
            return lambda _, known: known[dependency]
        if isinstance(told, Header) and told.alias and parameter.default is None:
            return _header(told.alias.lower().encode())
        if isinstance(told, Path):
            return lambda request, _: str(request.path_params[parameter.name])
        raise TypeError(f"no plan can provide {parameter}")


def _header(name: bytes) -> Find:
    """The first of that name, straight from what the server has read."""

    def find(request: Request, _: Mapping[Any, Any]) -> str | None:
        for key, value in request.scope["headers"]:
            if key == name:
                return str(value, "latin-1")
        return None

    return find
