"""Who looks: the session, login and logout; and the record of changes."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from taskfleet_dashboard.answers.scalers import AuditAnswer
from taskfleet_dashboard.answers.session import LoginOrder, SessionAnswer
from taskfleet_dashboard.routes.asking import Asking, Viewing, log_in, log_out
from taskfleet_dashboard.routes.parameters import Cursor

router = APIRouter(tags=["session"])


@router.get("/session")
async def session(visit: Viewing) -> SessionAnswer:
    """Who this is, and what they may do."""
    return visit.session()


@router.post("/login")
async def login(request: Request, response: Response, order: LoginOrder) -> SessionAnswer:
    """Log in with a token. The answer sets a cookie that only this API gets."""
    return await log_in(request, response, order.token)


@router.post("/logout", status_code=204)
async def logout(visit: Asking, response: Response) -> None:
    """End this session of a token."""
    log_out(visit, response)


@router.get("/audit")
async def audit(visit: Viewing, cursor: Cursor = None) -> AuditAnswer:
    """The record of changes, the latest first."""
    return await visit.desk.audit(cursor)
