"""Forged requests: what another site can make a browser send, and what tells it from the dashboard's own requests.

Two checks, each of which is enough for an honest browser. `Origin` (or `Sec-Fetch-Site`) names who sends the request. A
random number is in a cookie that only this server gets, and what is made of it and of the user's name comes back in the
header `X-CSRF-Token`, which no other site can read or send.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from taskfleet_dashboard.refusals import Refused

COOKIE = "taskfleet_csrf"
HEADER = "X-CSRF-Token"
_NONCE_CHARACTERS = 100
_OWN = ("same-origin", "none")


def nonce_of(request: HTTPConnection) -> str:
    """The random number of this browser; empty for none."""
    found = request.cookies.get(COOKIE, "")
    return found if len(found) <= _NONCE_CHARACTERS else ""


def token(nonce: str, user: str) -> str:
    """What the header has to say."""
    return hashlib.sha256(f"taskfleet-csrf\0{nonce}\0{user}".encode("utf-8", "replace")).hexdigest()


def check(request: HTTPConnection, user: str, *, ambient: bool) -> None:
    """Errors: `Refused`. What is not sent by a browser unasked (not `ambient`) cannot be forged, and needs no token."""
    check_origin(request)
    if not ambient:
        return
    nonce, given = nonce_of(request), request.headers.get(HEADER, "")
    if not nonce or not hmac.compare_digest(given.encode("utf-8", "replace"), token(nonce, user).encode()):
        raise Refused(403, f"the header {HEADER} is missing or old: GET api/session tells it; reload the page")


def check_origin(request: HTTPConnection) -> None:
    """Errors: `Refused` for a request that a page of another site has sent."""
    origin = request.headers.get("origin")
    if origin is not None:
        # A proxy may have ended TLS, and may ask under another name and tell the one that it was asked by. No page of
        # another site can send that header.
        own = {request.headers.get(name, "").lower() for name in ("host", "x-forwarded-host")} - {""}
        if _site(origin) not in own:
            raise Refused(403, "this request was sent by a page of another site")
    elif request.headers.get("sec-fetch-site", "same-origin") not in _OWN:
        raise Refused(403, "this request was sent by a page of another site")


def _site(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # it is no address
        return ""
