"""The pages / and /docs. Their assets are installed files, so that they work without the Internet."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

_ASSETS = "/docs/assets"

router = APIRouter(include_in_schema=False)


@router.get("/")
async def root() -> RedirectResponse:
    """Redirect a browser from the bare address to the documentation."""
    return RedirectResponse("/docs")


@router.get("/docs")
async def docs() -> HTMLResponse:
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Mycelium",
        swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{_ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{_ASSETS}/favicon.png",
    )


def assets() -> Mount:
    """Serve Swagger UI from the files of the package fastapi-offline."""
    directory = files("fastapi_offline") / "static"
    return Mount(_ASSETS, StaticFiles(directory=str(directory)), name="docs-assets")
