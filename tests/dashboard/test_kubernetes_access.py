"""What the dashboard asks an API server about tokens, and how often; real ones are in tests/controlplane."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from taskfleet_dashboard.access import kubernetes
from taskfleet_dashboard.access.cookies import SESSION_COOKIE, session_of
from taskfleet_dashboard.access.kubernetes import KubernetesAccess
from taskfleet_dashboard.access.visitor import AccessDenied, Visitor

OWN = "taskfleet-dashboard:ops/web"


class ApiServer(KubernetesAccess):
    """Knows users by tokens, and their rights as (verb, subresource)."""

    def __init__(self, audience: str = "") -> None:
        super().__init__("shop", audience=audience)
        self.users: dict[tuple[str, str], str] = {}
        self.rights: dict[str, set[tuple[str, str]]] = {}
        self.asked: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
        self.answers = True

    def knows(self, user: str, *rights: tuple[str, str], audience: str = "") -> ApiServer:
        self.users[f"token-of-{user}", audience] = user
        self.rights[user] = set(rights)
        return self

    @property
    def reviews(self) -> list[tuple[str, str]]:
        """The tokens that it was asked about, and for which audience."""
        specs = [each["spec"] for each in self.asked if each["kind"] == "TokenReview"]
        return [(spec["token"], "".join(spec.get("audiences", []))) for spec in specs]

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if not self.answers:
            raise AccessDenied("the API server does not review tokens", status=503)
        spec = body["spec"]
        if body["kind"] == "TokenReview":
            user = self.users.get((spec["token"], "".join(spec.get("audiences", []))))
            return {"status": {"authenticated": user is not None, "user": {"username": user}}}
        asked = spec["resourceAttributes"]
        assert (asked["namespace"], asked["group"], asked["resource"]) == ("shop", "taskfleet.io", "taskqueues")
        return {"status": {"allowed": (asked["verb"], asked["subresource"]) in self.rights[spec["user"]]}}


def request(token: str = "", cookie: str = "", user: str = "") -> Request:
    headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
    headers += [(b"cookie", f"{SESSION_COOKIE}={session_of(cookie)}".encode())] if cookie else []
    headers += [(b"x-taskfleet-user", user.encode())] if user else []
    return Request({"type": "http", "headers": headers})


async def refused(access: KubernetesAccess, token: str) -> tuple[int, str]:
    with pytest.raises(AccessDenied) as error:
        await access.of_token(token)
    return error.value.status, str(error.value)


async def test_rights_on_the_resource_or_on_its_subresource_say_who_looks_and_who_changes() -> None:
    access = ApiServer().knows("vera", ("get", "")).knows("sub", ("get", "dashboard"), ("update", "dashboard"))
    access.knows("erik", ("get", ""), ("update", "")).knows("odd", ("update", ""))
    assert await access.of_token("token-of-vera") == Visitor("vera", may_change=False)
    assert await access.of_token("token-of-sub") == Visitor("sub", may_change=True)
    assert await access.of_token("token-of-erik") == Visitor("erik", may_change=True)
    assert await refused(access, "token-of-odd") == (403, "odd may not get taskqueues.taskfleet.io in namespace shop")
    assert (await refused(access, "token-of-nobody"))[0] == 401


async def test_a_token_is_reviewed_for_the_dashboard_first_and_then_for_the_api_server() -> None:
    access = ApiServer(OWN).knows("own", ("get", ""), audience=OWN).knows("other", ("get", ""))
    await access.of_token("token-of-own")
    await access.of_token("token-of-other")
    assert access.reviews == [("token-of-own", OWN), ("token-of-other", OWN), ("token-of-other", "")]


async def test_answers_are_kept_for_a_while_and_refusals_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(kubernetes, "time", SimpleNamespace(monotonic=lambda: now))
    access = ApiServer().knows("vera", ("get", ""))
    await access.of_token("token-of-vera")
    await refused(access, "token-of-nobody")
    now = 29.0
    await access.of_token("token-of-vera")
    await refused(access, "token-of-nobody")
    assert len(access.reviews) == 2
    access.rights["vera"] = set()
    now = 31.0
    assert (await refused(access, "token-of-vera"))[0] == 403


async def test_an_api_server_that_does_not_answer_is_asked_again() -> None:
    access = ApiServer().knows("vera", ("get", ""))
    access.answers = False
    assert (await refused(access, "token-of-vera"))[0] == 503
    access.answers = True
    assert (await access.of_token("token-of-vera")).user == "vera"


async def test_made_up_tokens_cost_a_bounded_number_of_reviews_and_of_bytes() -> None:
    access = ApiServer()
    await asyncio.gather(*(refused(access, f"made-up-{n}") for n in range(1200)))
    assert access.most_at_once == 8
    assert len(access._kept) == 1000
    asked = len(access.asked)
    for token in ("", "  ", "x" * 2901):
        assert await refused(access, token) == (401, "this is no token of Kubernetes")
    assert len(access.asked) == asked


async def test_who_uses_an_account_is_believed_of_programs_only_and_marked_as_their_word() -> None:
    access = ApiServer().knows("account", ("get", ""))
    program = await access.visitor(request("token-of-account", user="erik\x1b[1m"))
    assert program.user.startswith("account, who says to be erik")
    assert "\x1b" not in program.user
    assert (await access.visitor(request(cookie="token-of-account", user="erik"))).user == "account"
    with pytest.raises(AccessDenied, match="log in with a token of Kubernetes"):
        await access.visitor(request(user="erik"))
