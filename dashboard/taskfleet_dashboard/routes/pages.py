"""Everything but the API: the pages, their files, the probe and the metrics."""

from __future__ import annotations

import html
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse

from taskfleet_dashboard.access.cookies import has_login
from taskfleet_dashboard.access.visitor import AccessDenied
from taskfleet_dashboard.contract import document_of
from taskfleet_dashboard.refusals import Refused
from taskfleet_dashboard.routes.asking import Viewing, serving_of

STATIC = Path(__file__).resolve().parent.parent / "static"
_FOREVER = "public, max-age=31536000, immutable"
_TYPES = {
    ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
    ".woff2": "font/woff2", ".png": "image/png", ".ico": "image/x-icon", ".json": "application/json",
    ".webmanifest": "application/manifest+json", ".txt": "text/plain; charset=utf-8", ".map": "application/json",
}  # fmt: skip
_MISSING = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>Taskfleet dashboard</title>"
    "<h1>The pages of the dashboard are not here</h1><p>{why}</p>"
    "<p>The API is: <a href={base}/api/openapi.json>its OpenAPI document</a>.</p>"
)

router = APIRouter(include_in_schema=False)


@router.get("/api/openapi.json")
async def openapi(request: Request, _visit: Viewing) -> JSONResponse:
    """The OpenAPI document."""
    return JSONResponse(document_of(request.app))


@router.get("/healthz")
async def healthz(request: Request) -> Response:
    """Whether it serves, and reaches Redis. Why not names the address of Redis, so it is for who may look."""
    problem = await serving_of(request).problem()
    if problem is None:
        return PlainTextResponse("ok")
    told = problem if await _refusal(request) is None else "Redis cannot be used; who may look is told why"
    return PlainTextResponse(told, status_code=503)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """The metrics of the dashboard itself, which name no queue; who may look also gets those of the queues.

    Who shows a token that is none learns it: a scrape must not lose figures in silence.
    """
    refusal = await _refusal(request)
    if refusal is not None and has_login(request):
        raise Refused(refusal.status, str(refusal))
    text, kind = await serving_of(request).metrics(request.headers.get("accept", ""), all_of_it=refusal is None)
    return Response(text, headers={"Content-Type": kind})


async def _refusal(request: Request) -> AccessDenied | None:
    """Why who sends it may not look; `None` for who may."""
    try:
        await serving_of(request).access.visitor(request)
    except AccessDenied as error:
        return error
    return None


@router.api_route("/api/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
async def nothing(path: str) -> Response:
    """There is no such call."""
    raise Refused(404, f"there is nothing at /api/{path}; /api/openapi.json lists what there is")


@router.get("/{path:path}")
async def page(request: Request, path: str) -> Response:
    """A file of the pages, or the page that finds out itself what the path means."""
    file = _file(path)
    if file is not None:
        headers = {"Cache-Control": _FOREVER if path.startswith("assets/") else "no-cache"}
        return FileResponse(file, headers=headers, media_type=_TYPES.get(file.suffix, "application/octet-stream"))
    if path.startswith("assets/"):
        raise Refused(404, f"there is no file {path}; reload the page, which may be of an earlier version")
    return _index(str(request.scope.get("root_path", "")).rstrip("/"))


def _file(path: str) -> Path | None:
    """The file of that path; no path leads out of the folder."""
    if not path or "\0" in path or path == "index.html":
        return None
    try:
        found = (STATIC / path).resolve()
        return found if found.is_relative_to(STATIC) and found.is_file() else None
    except (OSError, ValueError):  # it is no name that a file could have, such as one that is too long
        return None


def _index(base: str) -> Response:
    """The page. Its `<base>` is where the dashboard is mounted, so its files and calls are found from any path."""
    try:
        text = (STATIC / "index.html").read_text(encoding="utf-8")
    except OSError:
        why = "This installation has no built pages. In a checkout, make them with: make dashboard"
        return HTMLResponse(_MISSING.format(why=html.escape(why), base=html.escape(base, quote=True)), status_code=503)
    tag = f'<base href="{html.escape(base, quote=True)}/">'
    return HTMLResponse(text.replace("<head>", f"<head>{tag}", 1), headers={"Cache-Control": "no-cache"})
