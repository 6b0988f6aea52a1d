"""Alive, and ready: two questions that must not be one."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..lifecycle import Lifecycle
from ..schemas import responses
from ..web.problems import Problem
from .responses import json_response, problem_responses

router = APIRouter(tags=["health"])


@router.get("/health", response_model=responses.Health)
async def health() -> Response:
    """This process runs. It asks nobody else, so that an ill broker gets no gateway restarted."""
    return json_response({"status": "ok"})


@router.get("/ready", response_model=responses.Health, responses=problem_responses("unavailable"))
async def ready(request: Request) -> Response:
    """Requests are welcome: the broker is connected, and nobody has asked this process to leave."""
    lifecycle: Lifecycle = request.app.state.lifecycle
    if (reason := lifecycle.not_ready()) is not None:
        raise Problem("unavailable", reason)
    return json_response({"status": "ready"})
