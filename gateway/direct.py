"""Routes without FastAPI's machinery, for the few that are asked most.

They are declared to FastAPI like all others, which describes them in its document; but a request for
one of them is answered from a plan that is made once, at a fraction of what FastAPI spends on solving
the same dependencies anew. What a plan can't have is refused when it is made, not when it is used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import Parameter, signature
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fastapi import Request
from fastapi.params import Depends, Header, Path
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

Resolve = Callable[[Request, dict[Any, Any]], Awaitable[Any]]
"""Finds one argument. The mapping holds what the dependencies of this request have answered already."""


def direct(method: str, path: str, endpoint: Callable[..., Awaitable[Response]]) -> Route:
    """The endpoint as a plain Starlette route. Raises TypeError for a parameter that it can't provide."""
    return _Route(path, _Endpoint(endpoint), methods=[method])


class _Route(Route):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        return match, {**found, "route": self} if match is Match.FULL else found


class _Endpoint:
    """An ASGI application; what is raised in it goes to the handlers of errors, as everywhere."""

    def __init__(self, endpoint: Callable[..., Awaitable[Response]]) -> None:
        self._answer = _call_of(endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response: Response = await self._answer(Request(scope, receive, send), {})
        await response(scope, receive, send)


def _call_of(call: Callable[..., Awaitable[Any]]) -> Resolve:
    """Calls it with its arguments, found in the order in which it names them."""
    function = call if hasattr(call, "__code__") else type(call).__call__
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
