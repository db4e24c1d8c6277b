"""`kubectl taskfleet` against an API server that answers as it is told: which dashboard is asked, as whom, and the end.

How real ones answer is in tests/controlplane/test_kubectl_taskfleet.py.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from taskfleet.errors import ConfigurationError
from taskfleet_operator.kubectl import _complete, _run, dashboard, workers
from taskfleet_operator.kubectl.cluster import Answer, ClusterAccess, ClusterError
from taskfleet_operator.kubectl.dashboard import Dashboard, NoDashboardError, find

FORBIDDEN = Answer(403, {"kind": "Status", "apiVersion": "v1", "message": "no"})
ALL, OWN = "/api/v1/services", "/api/v1/namespaces/shop/services"
PROXY = "/api/v1/namespaces/ops/services/web:http/proxy/api/"
TOKENS = "/api/v1/namespaces/ops/serviceaccounts/web-"
WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"

Reply = Answer | list[Answer] | Callable[[], Answer]


class Api(ClusterAccess):
    """Answers by path, a list one after the other, and remembers what it was asked."""

    def __init__(self, **answers: Reply) -> None:
        self.namespace = "shop"
        self.answers: dict[str, Reply] = dict(answers)
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []

    def told(self, path: str, *replies: Answer) -> Api:
        self.answers[path] = list(replies)
        return self

    def call(
        self, method: str, path: str, query: Any = None, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        self.asked.append((method, path, body, headers or {}))
        reply = self.answers.get(path, Answer(404, {"kind": "Status", "apiVersion": "v1"}))
        if isinstance(reply, list):
            return reply.pop(0) if len(reply) > 1 else reply[0]
        return reply if isinstance(reply, Answer) else reply()

    def own_token(self) -> str:
        return ""


def service(name: str, namespace: str, rights: str = "") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "labels": {"taskfleet.io/rights-of": rights}}}


def services(*items: dict[str, Any]) -> Answer:
    return Answer(200, {"items": list(items)})


def granted(api: Api, user: str = "erik") -> Api:
    """The user may ask for both tokens."""
    for role in ("view", "edit"):
        api.told(f"{TOKENS}{role}/token", Answer(201, {"status": {"token": f"token-{role}"}}))
    return api.told(WHO, Answer(201, {"status": {"userInfo": {"username": user}}}))


@pytest.mark.parametrize(
    ("everywhere", "here", "chosen"),
    [
        (services(service("a", "ops")), FORBIDDEN, ("ops", "a")),
        (services(service("a", "ops"), service("b", "ops", "shop")), FORBIDDEN, ("ops", "b")),
        (services(service("a", "ops"), service("b", "shop", "other")), FORBIDDEN, ("shop", "b")),
        (FORBIDDEN, services(service("b", "shop")), ("shop", "b")),
        (FORBIDDEN, services(), ("taskfleet-system", "taskfleet-dashboard")),
        (FORBIDDEN, FORBIDDEN, ("taskfleet-system", "taskfleet-dashboard")),
    ],
)
def test_the_dashboard_of_the_namespace_is_asked_or_the_only_one(
    everywhere: Answer, here: Answer, chosen: tuple[str, str]
) -> None:
    found = find(Api().told(ALL, everywhere).told(OWN, here), "")
    assert (found.namespace, found.name) == chosen


def test_with_several_dashboards_or_none_the_error_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match=r"choose one with --dashboard: ops/a, ops/b$"):
        find(Api().told(ALL, services(service("a", "ops"), service("b", "ops"))), "")
    with pytest.raises(NoDashboardError, match=r"dashboard\.enabled=true"):
        find(Api().told(ALL, services()), "")


def test_tokens_are_for_one_dashboard_and_asked_for_anew_before_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(dashboard, "time", SimpleNamespace(monotonic=lambda: now))
    api = granted(Api().told(f"{PROXY}session", Answer(200, {"user": "x"})))
    web = Dashboard(api, "ops", "web")

    def orders() -> list[Any]:
        return [body["spec"] for _, path, body, _ in api.asked if path == f"{TOKENS}view/token"]

    for _ in range(3):
        web.get("session")
    assert orders() == [{"audiences": ["taskfleet-dashboard:ops/web"], "expirationSeconds": 600}]
    now = 599.0
    web.get("session")
    assert len(orders()) == 2
    sent = [headers for _, path, _, headers in api.asked if path.startswith(PROXY)]
    assert sent == [{"X-Taskfleet-Token": "token-view"}] * 4


@pytest.mark.parametrize(
    ("user", "told"), [("erik", "erik"), ("j\u00f6rg", None), ("a\r\nX-Evil: 1", None), ("", None)]
)
def test_a_change_tells_who_asks_if_a_header_can_hold_it(user: str, told: str | None) -> None:
    api = granted(Api().told(f"{PROXY}queues/mail/pause", Answer(200, {"changed": True})), user)
    Dashboard(api, "ops", "web").post("queues/mail/pause")
    sent = api.asked[-1][3]
    assert (sent["X-Taskfleet-Token"], sent.get("X-Taskfleet-User")) == ("token-edit", told)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (Answer(409, {"error": "it runs"}), "^it runs$"),
        (Answer(401, {"kind": "Status", "apiVersion": "v1"}), "^the API server does not know you"),
        (FORBIDDEN, "^you may not get services/proxy of ops/web: ask for the Role web-user-view$"),
        (Answer(404, {"kind": "Status", "apiVersion": "v1"}), "^there is no dashboard ops/web; name it with"),
        (
            Answer(503, {"kind": "Status", "message": "a\nb"}),
            r"^the dashboard ops/web does not answer \(a b\); see: ku",
        ),
        (Answer(500, {}), "^the dashboard ops/web: status 500$"),
    ],
)
def test_what_is_refused_is_one_line_that_says_by_whom(answer: Answer, line: str) -> None:
    with pytest.raises(ClusterError, match=line) as error:
        Dashboard(granted(Api().told(f"{PROXY}session", answer)), "ops", "web").get("session")
    assert error.value.status == answer.status


def test_an_own_token_is_asked_for_where_there_is_one() -> None:
    with pytest.raises(ConfigurationError, match="logs in by a certificate, and has no token"):
        Dashboard(Api(), "ops", "web", own_token=True).get("session")
    with pytest.raises(ConfigurationError, match="--service-account: there is no ops/team"):
        Dashboard(Api(), "ops", "web", account="team").get("session")


# The commands.


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    """The API server of all commands of the test."""
    made = granted(Api())
    monkeypatch.setattr(ClusterAccess, "connect", lambda *_: made)
    return made


def run(*words: str) -> int:
    return _run([*words, "--dashboard", "ops/web"])


def worker(state: str, busy: int = 0) -> Answer:
    row = {"name": "w-1", "id": "w-1/7", "state": state, "busy": busy}
    return Answer(200, {"items": [row]})


def test_a_drain_waits_until_nothing_runs_and_says_when_it_has_waited_enough(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workers, "_LOOK_SECONDS", 0.0)
    api.told(f"{PROXY}workers/w-1/cordon", Answer(200, {"changed": True, "detail": ""}))
    api.told(f"{PROXY}workers", worker("running", 2), worker("running", 2), worker("cordoned", 1), worker("drained"))
    assert run("drain", "pod/w-1") == 0
    assert capsys.readouterr().out == "worker w-1 drained\n"
    api.told(f"{PROXY}workers", worker("cordoned", 2))
    assert run("drain", "w-1/7", "--timeout", "0") == 1
    assert capsys.readouterr().out == "worker w-1 still runs 2; it stays cordoned\n"
    api.told(f"{PROXY}workers", worker("running"), Answer(200, {"items": []}))
    assert run("drain", "w-1") == 0
    assert capsys.readouterr().out == "worker w-1 gone\n"


def job(name: str, done: int, stayed: int = 0, error: str | None = None, undo: str | None = None) -> Answer:
    ended = {"job": name, "state": "done", "done": done, "stayed": stayed, "error": error, "undo_until": undo}
    return Answer(200, ended)


@pytest.mark.parametrize(
    ("ended", "code", "out", "err"),
    [
        (job("j", 2, undo="x"), 0, "2 dead letters discarded\n", "for ten minutes: kubectl taskfleet dead undo j\n"),
        (job("j", 1), 0, "1 dead letter discarded\n", ""),
        (job("j", 1, stayed=1), 1, "1 dead letter discarded\n", "taskfleet: 1 stayed: cancelled, damaged, or "),
        (job("j", 1, error="Redis is gone"), 1, "1 dead letter discarded\n", "taskfleet: Redis is gone\n"),
    ],
)
def test_the_end_of_a_job_is_told_and_is_the_exit_code(
    api: Api, capsys: pytest.CaptureFixture[str], ended: Answer, code: int, out: str, err: str
) -> None:
    api.told(f"{PROXY}dead/discard", Answer(202, {"job": "j"})).told(f"{PROXY}jobs/j", ended)
    assert run("dead", "discard", "--task", "send", "--yes") == code
    told = capsys.readouterr()
    assert (told.out, err in told.err, bool(told.err)) == (out, True, bool(err))
    assert ("POST", {"match": {"task": "send"}}) in [(method, body) for method, _, body, _ in api.asked]


def test_ids_of_several_queues_are_an_order_for_each_and_one_that_is_unknown_changes_nothing(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, queue in (("a", "mail"), ("b", "shop"), ("c", "mail")):
        api.told(f"{PROXY}dead/{name}", Answer(200, {"queue": queue}))
    api.told(f"{PROXY}dead/requeue", Answer(202, {"job": "j"})).told(f"{PROXY}jobs/j", job("j", 2), job("j", 1))
    assert run("dead", "requeue", "a", "b", "c", "a") == 0
    assert capsys.readouterr().out == "3 dead letters requeued\n"
    orders = [body for _, path, body, _ in api.asked if path == f"{PROXY}dead/requeue"]
    assert orders == [{"queue": "mail", "ids": ["a", "c"]}, {"queue": "shop", "ids": ["b"]}]
    api.told(f"{PROXY}dead/d", Answer(404, {"error": "task d is not known"}))
    assert run("dead", "requeue", "a", "d") == 1
    assert run("dead", "requeue", "a", "--queue", "mail") == 2
    assert len([path for _, path, _, _ in api.asked if path == f"{PROXY}dead/requeue"]) == 2


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["pa"], ["pause"]),
        (["dead", "re"], ["requeue"]),
        (["drain", "--timeout", "5", "-n", "shop", "w"], ["w-1"]),
        (["drain", "--dashboard=ops/none", ""], []),
        (["explain", ""], ["mails", "orders"]),
        (["explain", "orders", ""], []),
        (["pause", ""], []),  # a cluster that does not answer
    ],
)
def test_a_word_is_completed_behind_the_options_before_it(
    api: Api, capsys: pytest.CaptureFixture[str], words: list[str], names: list[str]
) -> None:
    api.told(ALL, services(service("web", "ops"))).told(f"{PROXY}workers", worker("running"))
    names_of = [{"metadata": {"name": name}} for name in ("orders", "mails")]
    api.told("/apis/taskfleet.io/v1alpha1/namespaces/shop/taskqueues", Answer(200, {"items": names_of}))
    assert _complete(words) == 0
    assert capsys.readouterr().out.splitlines() == [*names, ":4"]
