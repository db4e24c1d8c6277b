"""A running Prometheus, asked over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any


class QueryError(Exception):
    """Prometheus refuses the query; the message is its own."""


class PrometheusServer:
    """`query("up")` returns the samples of an instant query."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def get(self, path: str, **parameters: str) -> Any:
        """The field `data` of an answer."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters, doseq=True)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise QueryError(json.load(error).get("error", str(error))) from None

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of each sample now."""
        found = self.get("query", query=expression)
        if found["resultType"] == "scalar":
            return [({}, float(found["result"][1]))]
        return [(one["metric"], float(one["value"][1])) for one in found["result"]]

    def labels_of(self, metric: str) -> set[str]:
        """The names of the labels that the series of a metric have; empty when there is none."""
        return {name for one in self.get("series", **{"match[]": metric}) for name in one}
