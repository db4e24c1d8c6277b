"""`kubectl taskfleet dead` against a dashboard that answers as it is told."""

from __future__ import annotations

from typing import Any

import pytest

from taskfleet_operator.kubectl import dead
from taskfleet_operator.kubectl.cluster import Answer, ClusterAccess, ClusterError
from taskfleet_operator.kubectl.dashboard import Dashboard, NoDashboardError


class _Api(ClusterAccess):
    """Remembers the paths that it was asked for."""

    def __init__(self, *answers: Answer) -> None:
        self.namespace = "shop"
        self.answers, self.paths = list(answers), list[str]()

    def call(self, method: str, path: str, *_: Any, **__: Any) -> Answer:
        self.paths.append(path)
        return Answer(200, {"status": {"token": "t"}}) if path.endswith("/token") else self.answers.pop(0)


def test_a_job_whose_dashboard_ends_meanwhile_is_named_in_the_error() -> None:
    api = _Api(Answer(200, {"state": "running"}), Answer(503, {"kind": "Status", "apiVersion": "v1", "message": "no"}))
    with pytest.raises(ClusterError, match=r"does not answer .*; job a1b2 goes on without us"):
        dead._ended(Dashboard(api, "shop", "dashboard"), "a1b2")


@pytest.mark.parametrize("answer", [Answer(200, {}), Answer(302, {}), Answer(307, {"location": "/login"})])
def test_a_service_that_is_no_dashboard_is_one_clear_line(answer: Answer) -> None:
    with pytest.raises(NoDashboardError, match=r"^shop/web does not answer as a dashboard does; name it with --dash"):
        Dashboard(_Api(answer), "shop", "web").get("overview")


@pytest.mark.parametrize("name", ["a/../../secrets", "a?x=", "a%2e", "a b"])
def test_the_name_of_a_dashboard_is_one_part_of_the_address(name: str) -> None:
    api = _Api(Answer(200, {"user": ""}))
    Dashboard(api, "shop", name).get("session")
    assert api.paths[-1].count("/") == "/api/v1/namespaces/shop/services/x:http/proxy/api/session".count("/")
    assert "?" not in api.paths[-1]
    assert " " not in api.paths[-1]
