"""Binaries come from the cache or are built with Go; otherwise the error gives the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e.cluster import binaries
from e2e.cluster.errors import ClusterError


@pytest.mark.parametrize("name", binaries.NAMES)
def test_every_binary_has_a_version(name: str) -> None:
    assert binaries.version(name).startswith("v")


def test_a_built_binary_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    built = tmp_path / "bin" / f"helm-{binaries.version('helm')}" / "helm"
    built.parent.mkdir(parents=True)
    built.touch()
    assert binaries.ensure("helm") == {"helm": built}


def test_without_go_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ClusterError, match=r"install Go 1\.26 or newer"):
        binaries.ensure("kubectl")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ClusterError, match="no such binary: kubctl"):
        binaries.ensure("kubctl")
