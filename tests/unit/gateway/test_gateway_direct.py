"""Routes that are answered from a plan: the same answers, without FastAPI's machinery."""

from __future__ import annotations

from typing import Annotated

import pytest
from fastapi import Depends, Query, Request
from starlette.responses import PlainTextResponse, Response

from gateway.direct import DirectApp
from gateway.routes import MOST_ASKED


def test_the_document_tells_of_them_all_the_same(app):
    paths = app.openapi()["paths"]
    assert all(method.lower() in paths[path] for method, path, _ in MOST_ASKED)


asked = []


async def who(request: Request) -> str:
    asked.append(request)
    return "alice"


async def twice(name: Annotated[str, Depends(who)]) -> str:
    return name * 2


async def show(name: Annotated[str, Depends(who)], double: Annotated[str, Depends(twice)]) -> Response:
    return PlainTextResponse(f"{name} {double}")


async def test_a_dependency_is_asked_once_in_a_request():
    asked.clear()
    sent = []

    async def send(message):
        sent.append(message)

    app = DirectApp(("GET", "/", show))
    await app({"type": "http", "method": "GET", "path": "/", "headers": []}, None, send)

    assert sent[-1]["body"] == b"alice alicealice"
    assert len(asked) == 1


def test_what_no_plan_can_provide_is_refused_when_it_is_made():
    async def listed(limit: Annotated[int, Query(ge=1)] = 50) -> Response:
        return PlainTextResponse(str(limit))

    with pytest.raises(TypeError, match="limit"):
        DirectApp(("GET", "/", listed))


def test_what_would_block_the_loop_is_refused_as_well():
    async def named(name: Annotated[str, Depends(_blocking)]) -> Response:
        return PlainTextResponse(name)

    with pytest.raises(TypeError, match="not async"):
        DirectApp(("GET", "/", named))


def _blocking() -> str:
    return "alice"
