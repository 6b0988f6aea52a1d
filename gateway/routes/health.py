"""Liveness and readiness, kept apart: a restart does not help a gateway whose broker is away."""

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
    """The process is alive. The broker and the services are not checked."""
    return json_response({"status": "ok"})


@router.get("/ready", response_model=responses.Health, responses=problem_responses("unavailable"))
async def ready(request: Request) -> Response:
    """The instance takes requests: its broker is connected and it is not shutting down."""
    lifecycle: Lifecycle = request.app.state.lifecycle
    if (reason := lifecycle.not_ready()) is not None:
        raise Problem("unavailable", reason)
    return json_response({"status": "ready"})
