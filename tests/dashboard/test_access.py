"""Who may look and who may change, by each access method; and requests that other sites make a browser send."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskfleet import TaskQueue
from taskfleet.errors import ConfigurationError
from taskfleet_dashboard.access.logins import MOST_FAILURES, SECONDS, Logins
from taskfleet_dashboard.access.proxies import ProxyAccess
from taskfleet_dashboard.access.tokens import TokenAccess
from taskfleet_dashboard.access.visitor import Access, CallableAccess, OpenAccess, ReadOnly, Visitor
from taskfleet_dashboard.app import application
from taskfleet_dashboard.guarding import bodies
from taskfleet_dashboard.masking import Masks
from taskfleet_dashboard.server import DashboardOptions
from taskfleet_dashboard.serving import Serving
from tests.dashboard.conftest import MakeSite, Site

VIEW, EDIT = "view-token-0123456789", "edit-token-0123456789"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "tokens"
    file.write_text(f"# who may look\nview vera {VIEW}\nedit erik {EDIT}\n")
    return file


async def pause(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    return await client.post("/api/queues/default/pause", headers=headers)


@pytest.fixture
async def known(queue: TaskQueue) -> TaskQueue:
    """The queue `default` has had a task."""

    @queue.task
    async def work() -> None: ...

    await work.enqueue()
    return queue


async def test_on_loopback_without_an_access_method_everything_is_allowed_to_this_machine(
    known: TaskQueue, site: Site
) -> None:
    session = await site.get("session")
    assert session | {"user": "", "may_change": True, "login": None, "base": "", "masked_fields": []} == session
    assert "@" not in session["redis"]
    await site.post("queues/default/pause")


async def test_a_token_in_the_header_looks_or_changes_as_its_line_says(
    known: TaskQueue, make_site: MakeSite, token_file: Path
) -> None:
    site = await make_site(known, TokenAccess(token_file))
    for path in ("overview", "tasks", "dead", "session", "events?topics=overview", "openapi.json", "audit"):
        response = await site.client.get(f"/api/{path}")
        assert (response.status_code, response.json()["login"]) == (401, "token"), path
    assert (await pause(site.client)).status_code == 401
    vera, erik = {"Authorization": f"Bearer {VIEW}"}, {"Authorization": f"Bearer {EDIT}"}
    session = (await site.client.get("/api/session", headers=vera)).json()
    assert (session["user"], session["may_change"]) == ("vera", False)
    refused = await pause(site.client, **vera)
    assert (refused.status_code, refused.json()["error"]) == (403, "you may look and not change anything here")
    assert (await pause(site.client, **erik)).status_code == 200  # a header is never sent unasked: it needs no token
    wrong = await site.client.get("/api/session", headers={"Authorization": "Bearer wrong-token-0123456789"})
    assert (wrong.status_code, wrong.json()["error"]) == (401, "this token is not known here")
    rows = (await site.client.get("/api/audit", headers=erik)).json()["items"]
    assert [(row["user"], row["action"]) for row in rows] == [("erik", "pause")]


async def test_a_login_sets_cookies_that_no_script_reads_and_ends_with_a_logout(
    known: TaskQueue, make_site: MakeSite, token_file: Path
) -> None:
    site = await make_site(known, TokenAccess(token_file))
    assert (await site.client.post("/api/login", json={"token": "wrong-token-0123456789"})).status_code == 401
    answer = await site.client.post("/api/login", json={"token": EDIT})
    assert (answer.status_code, answer.json()["user"]) == (200, "erik")
    cookies = answer.headers.get_list("set-cookie")
    assert len(cookies) == 2
    assert all("HttpOnly" in each and "SameSite=strict" in each and "Path=/" in each for each in cookies)
    assert EDIT not in str(answer.headers)
    await site.post("queues/default/pause")
    session = await site.get("session")
    assert (await site.client.post("/api/logout", headers={"X-CSRF-Token": session["csrf"]})).status_code == 204
    assert (await site.client.get("/api/session")).status_code == 401


@pytest.mark.parametrize(("scheme", "is_secure"), [("https", True), ("http", False), ("", False)])
async def test_cookies_are_for_tls_alone_where_the_proxy_says_that_the_browser_came_by_it(
    known: TaskQueue, make_site: MakeSite, token_file: Path, scheme: str, is_secure: bool
) -> None:
    site = await make_site(known, TokenAccess(token_file))
    answer = await site.client.post("/api/login", json={"token": EDIT}, headers={"X-Forwarded-Proto": scheme})
    assert ["Secure" in each for each in answer.headers.get_list("set-cookie")] == [is_secure] * 2


async def test_wrong_logins_are_slowed_down(known: TaskQueue, make_site: MakeSite, token_file: Path) -> None:
    site = await make_site(known, TokenAccess(token_file))
    for _ in range(20):
        assert (await site.client.post("/api/login", json={"token": "x"})).status_code == 401
    refused = await site.client.post("/api/login", json={"token": EDIT})
    assert (refused.status_code, refused.json()["error"]) == (
        429, "too many wrong tokens from your address; try again in a minute",
    )  # fmt: skip


def test_only_the_address_that_sends_wrong_tokens_waits() -> None:
    now = 0.0
    logins = Logins(lambda: now)
    for n in range(MOST_FAILURES):
        logins.failed(f"2001:db8::{n:x}")  # one network
        logins.failed("::ffff:192.0.2.7")
    assert not logins.may_try("2001:db8::ffff")
    assert not logins.may_try("192.0.2.7")
    assert logins.may_try("2001:db8:0:1::1")
    assert logins.may_try("192.0.2.8")
    for n in range(20_000):  # a flood of addresses is forgotten, and not kept
        logins.failed(str(ipaddress.ip_address(0x0A000000 + n)))
    assert len(logins._failures) == 10_000
    for _ in range(MOST_FAILURES):
        logins.failed("192.0.2.7")
    now = SECONDS + 1
    assert logins.may_try("192.0.2.7")


async def test_a_token_file_is_read_again_and_one_that_is_gone_lets_nobody_in(
    known: TaskQueue, make_site: MakeSite, token_file: Path
) -> None:
    site = await make_site(known, TokenAccess(token_file))
    vera = {"Authorization": f"Bearer {VIEW}"}
    assert (await site.client.get("/api/session", headers=vera)).status_code == 200
    token_file.write_text(f"edit erik {EDIT}\n")
    os.utime(token_file, (1, 1))
    assert (await site.client.get("/api/session", headers=vera)).status_code == 401
    token_file.unlink()
    erik = {"Authorization": f"Bearer {EDIT}"}
    assert (await site.client.get("/api/session", headers=erik)).status_code == 401
    token_file.write_text(f"{EDIT}\n")
    session = (await site.client.get("/api/session", headers=erik)).json()
    assert (session["user"], session["may_change"]) == ("token", True)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "has no token; make one with: openssl rand -hex 32"),
        ("short\n", "line 1: the token has fewer than 16 characters; make one with: openssl rand -hex 32"),
        ("admin bob 0123456789abcdef\n", "line 1: write TOKEN, or view|edit NAME TOKEN"),
        ("\udcff", "is no text"),
        (f"view vera {'0' * 1_048_576}\n", "has more than 1048576 bytes"),
    ],
)
def test_a_wrong_token_file_is_one_clear_line(tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError, match=line.replace("|", r"\|")):
        TokenAccess(file)
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        TokenAccess(tmp_path / "none")


def proxied(*trusted: str, **groups: list[str]) -> ProxyAccess:
    networks = [ipaddress.ip_network(each) for each in trusted]
    return ProxyAccess("X-Forwarded-User", "X-Forwarded-Groups", networks, **groups)  # type: ignore[arg-type]


async def test_a_proxy_is_believed_only_when_it_is_trusted(known: TaskQueue, make_site: MakeSite) -> None:
    headers = {"X-Forwarded-User": "alice@example.com", "X-Forwarded-Groups": "dev, ops"}
    past = await make_site(known, proxied("10.0.0.0/8"))
    refused = await past.client.get("/api/session", headers=headers)
    assert (refused.status_code, refused.json()["error"]) == (403, "this dashboard is reached through its proxy only")
    site = await make_site(known, proxied("127.0.0.0/8"))
    assert (await site.client.get("/api/session")).status_code == 401
    session = (await site.client.get("/api/session", headers=headers)).json()
    assert (session["user"], session["may_change"]) == ("alice@example.com", True)
    twice = [("X-Forwarded-User", "alice"), ("X-Forwarded-User", "admin")]
    assert (await site.client.get("/api/session", headers=twice)).status_code == 401
    # The proxy knows its users by a cookie, which a browser sends unasked: the token is needed.
    assert (await pause(site.client, **headers)).status_code == 403
    assert (await pause(site.client, **headers, **{"X-CSRF-Token": session["csrf"]})).status_code == 200
    # The token of one user is none of another.
    other = headers | {"X-Forwarded-User": "bob", "X-CSRF-Token": session["csrf"]}
    assert (await pause(site.client, **other)).status_code == 403


@pytest.mark.parametrize(
    ("host", "is_trusted"),
    [
        ("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("fd00::1", True), ("::1", False), ("11.0.0.1", False),
        ("::ffff:11.0.0.1", False), ("10.1.2.3.example", False), ("", False),
    ],
)  # fmt: skip
def test_an_address_is_trusted_in_whichever_form_a_socket_tells_it(host: str, is_trusted: bool) -> None:
    assert proxied("10.0.0.0/8", "fd00::/8")._is_trusted(host) == is_trusted


async def test_groups_of_a_proxy_say_who_looks_and_who_changes(known: TaskQueue, make_site: MakeSite) -> None:
    site = await make_site(known, proxied("127.0.0.1", edit_groups=["ops"], view_groups=["dev"]))

    async def session(groups: str) -> tuple[int, Any]:
        headers = {"X-Forwarded-User": "a", "X-Forwarded-Groups": groups}
        response = await site.client.get("/api/session", headers=headers)
        return response.status_code, response.json().get("may_change")

    assert await session("ops") == (200, True)
    assert await session("dev,sales") == (200, False)
    assert await session("sales") == (403, None)
    assert await session("") == (403, None)
    # The browser's own, and behind it that of a proxy which adds where it has to replace.
    for groups in (["ops", "dev"], ["ops", ""], ["dev", "dev"]):
        sent = [("X-Forwarded-User", "a"), *(("X-Forwarded-Groups", each) for each in groups)]
        refused = await site.client.get("/api/session", headers=sent)
        assert (refused.status_code, "several times" in refused.json()["error"]) == (403, True), groups


async def test_read_only_holds_for_every_method_and_what_if_is_no_change(known: TaskQueue, make_site: MakeSite) -> None:
    site = await make_site(known, ReadOnly(OpenAccess()))
    session = await site.get("session")
    assert session["may_change"] is False
    headers = {"X-CSRF-Token": session["csrf"]}
    changes = [
        "queues/default/pause", "queues/default/resume", "tasks/a/cancel", "tasks/a/retry", "jobs/a/undo",
        "schedules/default/a/run", "schedules/default/a/pause", "schedules/default/a/resume",
        "workers/a/cordon", "workers/a/uncordon",
    ]  # fmt: skip
    for path in changes:
        assert (await site.client.post(f"/api/{path}", headers=headers)).status_code == 403, path
    for path in ("dead/requeue", "dead/discard"):
        assert (await site.client.post(f"/api/{path}", json={"match": {}}, headers=headers)).status_code == 403, path
    purge = await site.client.post("/api/queues/default/purge", json={"confirm": "default"}, headers=headers)
    assert purge.status_code == 403
    assert (await known.queue_stats("default")).ready == 1
    asked = await site.client.post("/api/scalers/local/none/what-if", json={}, headers=headers)
    assert asked.status_code == 404  # it would have been told, were it there
    assert (await site.get("audit"))["items"] == []


def test_every_post_of_the_contract_needs_the_right_to_change_but_three() -> None:
    """A new route that forgets to ask is one more in this list."""
    from taskfleet_dashboard.openapi import document

    paths = document()["paths"]
    posts = {path for path, each in paths.items() if "post" in each}
    assert len(posts) == 16
    asked = {"/api/login", "/api/logout", "/api/scalers/{namespace}/{name}/what-if"}
    assert posts - asked == {
        "/api/queues/{queue}/pause", "/api/queues/{queue}/resume", "/api/queues/{queue}/purge",
        "/api/tasks/{id}/cancel", "/api/tasks/{id}/retry", "/api/dead/requeue", "/api/dead/discard",
        "/api/jobs/{job}/undo", "/api/schedules/{queue}/{name}/run", "/api/schedules/{queue}/{name}/pause",
        "/api/schedules/{queue}/{name}/resume", "/api/workers/{name}/cordon", "/api/workers/{name}/uncordon",
    }  # fmt: skip


async def test_a_post_of_another_site_changes_nothing(known: TaskQueue, site: Site) -> None:
    session = await site.get("session")
    token = {"X-CSRF-Token": session["csrf"]}
    port = site.url.rpartition(":")[2]
    assert (await pause(site.client)).status_code == 403
    assert (await pause(site.client, **{"X-CSRF-Token": "0" * 64})).status_code == 403
    for origin in (
        "https://evil.example",
        "null",
        "http://[",
        f"http://127.0.0.1.evil.example:{port}",
        "http://127.0.0.1:1",
        "",
    ):
        refused = await pause(site.client, **token, Origin=origin)
        assert (refused.status_code, "another site" in refused.json()["error"]) == (403, True), origin
    for fetched in ("cross-site", "same-site"):
        assert (await pause(site.client, **token, **{"Sec-Fetch-Site": fetched})).status_code == 403
    # A token without the cookie that it was made with is worth nothing.
    async with httpx.AsyncClient(base_url=site.url) as other:
        assert (await pause(other, **token)).status_code == 403
    assert not (await known.queue_stats("default")).paused
    assert (await pause(site.client, **token, Origin=site.url)).status_code == 200
    behind = {"Origin": "https://fleet.example", "X-Forwarded-Host": "fleet.example"}
    assert (await pause(site.client, **token, **behind)).status_code == 200
    login = await site.client.post("/api/login", json={"token": "x"}, headers={"Origin": "https://evil.example"})
    assert login.status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.nip.example", "", "localhost.evil.example"]
)
async def test_a_name_that_was_let_to_loopback_is_not_served(site: Site, host: str) -> None:
    for path in ("/api/session", "/", "/healthz", "/metrics"):
        response = await site.client.get(path, headers={"Host": host})
        assert response.status_code == 421, path
        assert "--host-name" in response.json()["error"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "127.0.0.53"])
async def test_every_name_of_this_machine_is_served(site: Site, host: str) -> None:
    assert (await site.client.get("/api/session", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    ("options", "served", "refused"),
    [
        ({}, ["127.0.0.1", "localhost"], ["fleet.example"]),
        ({"host_names": ["Fleet.example"]}, ["fleet.example", "localhost"], ["other.example"]),
        ({"host": "0.0.0.0", "host_names": ["fleet.example"]}, ["fleet.example:443"], ["other.example", "10.0.0.1"]),
        ({"host": "::", "token_file": Path("t")}, ["any.example", "10.0.0.1"], []),
    ],
)
async def test_a_dashboard_is_served_under_the_names_that_it_is_given(
    queue: TaskQueue, make_site: MakeSite, options: dict[str, Any], served: list[str], refused: list[str]
) -> None:
    serving = Serving(queue, OpenAccess(), masks=Masks(), records=False)
    app = application(serving, hosts=DashboardOptions(**options).hosts())
    site = await make_site(queue, serving=serving, app=app)
    for host in served:
        assert (await site.client.get("/api/session", headers={"Host": host})).status_code == 200, host
    for host in refused:
        assert (await site.client.get("/api/session", headers={"Host": host})).status_code == 421, host


async def test_every_answer_has_the_security_headers(site: Site) -> None:
    for path in ("/", "/api/session", "/api/none", "/healthz", "/metrics", "/queues/default", "/assets/none.js"):
        response = await site.client.get(path)
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert "server" not in response.headers or response.headers["server"] == "uvicorn"
    assert (await site.client.get("/api/session")).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/" + "a" * 300, "/queues/" + "b" * 300, "/" + "c/" * 4000, "/assets/" + "d" * 300])
async def test_an_address_that_no_file_can_have_is_no_error_of_the_dashboard(site: Site, path: str) -> None:
    assert (await site.client.get(path)).status_code == (404 if path.startswith("/assets/") else 200)


async def test_an_error_of_its_own_has_the_security_headers_and_is_counted(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("<script>secret</script>")

    for name in ("overview", "schedules", "task"):
        monkeypatch.setattr(site.serving.desk, name, broken)
    for path in ("overview", "schedules", "tasks/a"):
        response = await site.client.get(f"/api/{path}")
        assert response.json() == {
            "error": "the dashboard has met an error of its own; its log has the details",
            "login": None,
        }
        assert response.status_code == 500
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
    assert sum(n for (_, status), n in site.serving.requests.answered.items() if status == 500) == 3
    assert caplog.text.count("\nZeroDivisionError: ") == 3  # and not once more by the server


async def test_a_body_that_is_too_large_or_no_json_is_refused_in_one_line(site: Site) -> None:
    session = await site.get("session")
    headers = {"X-CSRF-Token": session["csrf"], "Content-Type": "application/json"}
    large = await site.client.post("/api/dead/discard", content=b"[" * 300_000, headers=headers)
    assert (large.status_code, large.json()["error"]) == (413, "the body has more than 262144 bytes")
    broken = await site.client.post("/api/dead/discard", content=b"{", headers=headers)
    assert broken.status_code == 422
    assert broken.json()["error"].startswith("the body is no JSON: ")
    assert "\n" not in broken.json()["error"]


async def test_a_body_that_does_not_come_is_waited_for_no_longer_than_that(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MOST_SECONDS", 0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(site.url.rpartition(":")[2]))
    head = (
        "POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    writer.write(head.encode())
    answer = await asyncio.wait_for(reader.readuntil(b"}"), 60)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"the body has not come within 0.5 s" in answer
    stream = await site.stream("overview")  # whose only message is its end
    await asyncio.sleep(1)
    assert not stream.ended


async def test_an_access_callable_may_be_a_coroutine_and_lets_nobody_in_by_default(
    known: TaskQueue, make_site: MakeSite
) -> None:
    async def ask(request: Any) -> Any:
        return {"alice": Visitor("alice", may_change=True), "true": True}.get(request.headers.get("x-who", ""))

    access: Access = CallableAccess(ask)
    site = await make_site(known, access)
    assert (await site.client.get("/api/session")).status_code == 403
    alice = (await site.client.get("/api/session", headers={"X-Who": "alice"})).json()
    assert (alice["user"], alice["may_change"]) == ("alice", True)
    assert (await site.client.get("/api/session", headers={"X-Who": "true"})).json()["may_change"] is True
