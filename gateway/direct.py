"""Routes without FastAPI's machinery, for the few that are asked most.

They are declared to FastAPI like all others, which describes them in its document; but a request for
one of them meets the application's own middleware and nothing else, and is answered from a plan that is
made once, at a fraction of what FastAPI spends on solving the same dependencies anew. What a plan can't
have is refused when it is made, not when it is used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import Parameter, iscoroutinefunction, signature
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fastapi import FastAPI, Request
from fastapi.params import Depends, Header, Path
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

Resolve = Callable[[Request, dict[Any, Any]], Awaitable[Any]]
"""Finds one argument. The mapping holds what the dependencies of this request have answered already."""


Endpoint = Callable[..., Awaitable[Response]]


class DirectApp(FastAPI):
    """FastAPI, but for the routes given as method, path and endpoint. Raises TypeError for an endpoint
    with a parameter that no plan can provide."""

    def __init__(self, *direct: tuple[str, str, Endpoint], **options: Any) -> None:
        super().__init__(**options)
        self._direct = [
            Route(path, _Endpoint(endpoint, self.exception_handlers), methods=[method])
            for method, path, endpoint in direct
        ]

    def build_middleware_stack(self) -> ASGIApp:
        answer: ASGIApp = _handle
        for middleware, arguments, options in reversed(self.user_middleware):
            answer = middleware(answer, *arguments, **options)
        return _Fork(self._direct, answer, super().build_middleware_stack())


class _Fork:
    def __init__(self, routes: Sequence[Route], direct: ASGIApp, others: ASGIApp) -> None:
        self._routes = [(route, (route.methods or set()) - {"HEAD"}) for route in routes]
        self._direct = direct
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for route, methods in self._routes:
            if scope["type"] == "http" and scope["method"] in methods:
                match, found = route.matches(scope)
                if match is Match.FULL:
                    scope.update(found, route=route)
                    await self._direct(scope, receive, send)
                    return
        await self._others(scope, receive, send)


async def _handle(scope: Scope, receive: Receive, send: Send) -> None:
    await scope["endpoint"](scope, receive, send)


class _Endpoint:
    """An ASGI application; what is raised in it is answered as it is everywhere."""

    def __init__(self, endpoint: Endpoint, handlers: Mapping[Any, Callable[..., Any]]) -> None:
        self._answer = _call_of(endpoint)
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response: Response
        try:
            response = await self._answer(request, {})
        except Exception as error:
            handle = next((self._handlers[one] for one in type(error).__mro__ if one in self._handlers), None)
            if handle is None:
                raise
            response = await handle(request, error)
        await response(scope, receive, send)


def _call_of(call: Callable[..., Awaitable[Any]]) -> Resolve:
    """Calls it with its arguments, found in the order in which it names them."""
    function = call if hasattr(call, "__code__") else type(call).__call__
    if not iscoroutinefunction(function):
        raise TypeError(f"a plan awaits what it calls, and {call} is not async")
    hints = get_type_hints(function, include_extras=True)
    resolvers = [(name, _argument(one, hints[name])) for name, one in signature(call).parameters.items()]

    async def resolve(request: Request, known: dict[Any, Any]) -> Any:
        return await call(**{name: await find(request, known) for name, find in resolvers})

    return resolve


def _argument(parameter: Parameter, hint: Any) -> Resolve:
    if isinstance(hint, type) and issubclass(Request, hint):
        return _request
    *_, told = get_args(hint) if get_origin(hint) is Annotated else (None,)
    if isinstance(told, Depends) and told.dependency is not None:
        return _once(told.dependency)
    if isinstance(told, Header) and told.alias and parameter.default is None:
        return _header(told.alias)
    if isinstance(told, Path):
        return _path(parameter.name)
    raise TypeError(f"no plan can provide {parameter}")


async def _request(request: Request, _: dict[Any, Any]) -> Request:
    return request


def _once(dependency: Callable[..., Any]) -> Resolve:
    resolve = _call_of(dependency)

    async def remembered(request: Request, known: dict[Any, Any]) -> Any:
        if dependency not in known:
            known[dependency] = await resolve(request, known)
        return known[dependency]

    return remembered


def _header(name: str) -> Resolve:
    async def find(request: Request, _: dict[Any, Any]) -> str | None:
        return request.headers.get(name)

    return find


def _path(name: str) -> Resolve:
    async def find(request: Request, _: dict[Any, Any]) -> str:
        return str(request.path_params[name])

    return find
