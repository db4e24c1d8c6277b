"""A Python that this machine lacks, from Debian's packages."""

from __future__ import annotations

from pathlib import Path

from tests.support import debian_packages

_SUITES = {"3.14": "forky"}  # the first release of Debian that has this Python
_LIBRARIES = (
    "libc6", "libgcc-s1", "libbz2-1.0", "libexpat1", "libffi8", "liblzma5", "libsqlite3-0", "libssl3t64",
    "libuuid1", "libzstd1", "zlib1g",
)  # fmt: skip


def python(version: str) -> Path:
    """The interpreter of this version, such as 3.14. `NotToBeHadError` says why there is none."""
    name = f"python{version}"
    if version not in _SUITES:
        raise debian_packages.NotToBeHadError(f"no {name} here, and none in a Debian that this knows")
    parts = (name, f"{name}-minimal", f"lib{name}-minimal", f"lib{name}-stdlib")
    return debian_packages.program(name, _SUITES[version], (*parts, *_LIBRARIES))
