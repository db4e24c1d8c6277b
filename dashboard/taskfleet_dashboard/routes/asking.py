"""What every route asks first: who sends the request, and whether they may do that."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request, Response

from taskfleet.redis import urls
from taskfleet.version import __version__
from taskfleet_dashboard.access.cookies import SESSION_COOKIE, session_of, set_cookie
from taskfleet_dashboard.access.visitor import AccessDenied, Visitor
from taskfleet_dashboard.answers.session import SessionAnswer
from taskfleet_dashboard.changing.changes import Changes
from taskfleet_dashboard.desk import Desk
from taskfleet_dashboard.events.stream import EventStream
from taskfleet_dashboard.guarding import forgery
from taskfleet_dashboard.refusals import Refused
from taskfleet_dashboard.serving import Serving


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who may look."""

    serving: Serving
    request: Request
    visitor: Visitor
    nonce: str

    @property
    def desk(self) -> Desk:
        """What can be read."""
        return self.serving.desk

    @property
    def changes(self) -> Changes:
        """What can be changed, in the name of this visitor."""
        return self.serving.changes(self.visitor.user)

    def session(self) -> SessionAnswer:
        """Who this is, and what they may do."""
        serving = self.serving
        return SessionAnswer(
            user=self.visitor.user,
            may_change=self.visitor.may_change,
            csrf=forgery.token(self.nonce, self.visitor.user),
            version=__version__,
            redis=urls.address(serving.queue.broker.url),
            masked_fields=list(serving.masks.names),
            base=str(self.request.scope.get("root_path", "")).rstrip("/"),
            login=serving.access.login,
        )

    def stream(self, topics: str) -> Response:
        """The stream of these topics. Errors: `Refused`."""
        return EventStream(self.serving.hub, self.serving.hub.admit(topics), may_look=self._may_still_look)

    async def _may_still_look(self) -> bool:
        try:
            await self.serving.access.visitor(self.request)
        except AccessDenied as error:
            return error.status not in (401, 403)  # with another, nobody knows at this moment
        return True


def serving_of(request: Request) -> Serving:
    """The dashboard that a request is for."""
    return cast("Serving", request.app.state.serving)


async def viewing(request: Request, response: Response) -> Visit:
    """A request of somebody who may look. Errors: `Refused`."""
    serving = serving_of(request)
    try:
        visitor = await serving.access.visitor(request)
    except AccessDenied as error:
        raise Refused(error.status, str(error), login=serving.access.login) from None
    nonce = forgery.nonce_of(request)
    if not nonce:
        nonce = secrets.token_urlsafe(24)
        set_cookie(response, request, forgery.COOKIE, nonce)
    return Visit(serving, request, visitor, nonce)


async def asking(request: Request, visit: Annotated[Visit, Depends(viewing)]) -> Visit:
    """A POST that changes nothing, which no other site may send all the same."""
    forgery.check(request, visit.visitor.user, ambient=visit.serving.access.is_ambient(request))
    return visit


async def changing(visit: Annotated[Visit, Depends(asking)]) -> Visit:
    """A POST of somebody who may change something."""
    if not visit.visitor.may_change:
        raise Refused(403, "you may look and not change anything here")
    return visit


Viewing = Annotated[Visit, Depends(viewing)]
Asking = Annotated[Visit, Depends(asking)]
Changing = Annotated[Visit, Depends(changing)]


async def log_in(request: Request, response: Response, token: str) -> SessionAnswer:
    """Log in with a token. Errors: `Refused`."""
    serving = serving_of(request)
    forgery.check_origin(request)
    address = request.client.host if request.client is not None else ""
    if not serving.logins.may_try(address):
        raise Refused(429, "too many wrong tokens from your address; try again in a minute")
    try:
        visitor = await serving.access.of_token(token)
    except AccessDenied as error:
        serving.logins.failed(address)
        raise Refused(error.status, str(error), login=serving.access.login) from None
    nonce = secrets.token_urlsafe(24)
    set_cookie(response, request, forgery.COOKIE, nonce)
    set_cookie(response, request, SESSION_COOKIE, session_of(token))
    return Visit(serving, request, visitor, nonce).session()


def log_out(visit: Visit, response: Response) -> None:
    """End the session of a token."""
    path = f"{visit.request.scope.get('root_path', '')}/"
    for name in (SESSION_COOKIE, forgery.COOKIE):
        response.delete_cookie(name, path=path, httponly=True, samesite="strict")
