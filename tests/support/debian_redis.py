"""A Redis with TLS, beside the Valkey of the development requirements: the system's, else Debian's from the cache.

`python -m tests.support.debian_redis` prints its path; without one it says why on standard error, and exits with 1.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.support import debian_packages

_PACKAGES = (
    "redis-server", "redis-tools", "libc6", "libgcc-s1", "libatomic1", "libjemalloc2", "liblzf1", "libssl3",
    "libsystemd0", "libcap2", "libgcrypt20", "libgpg-error0", "liblz4-1", "liblzma5", "libzstd1", "libstdc++6",
)  # fmt: skip


def program() -> Path:
    """That of the system, else Debian's. `NotToBeHadError` says why there is none."""
    found = shutil.which("redis-server")
    return Path(found) if found else from_debian()


def from_debian() -> Path:
    """Debian's, whatever the system has."""
    return debian_packages.program("redis-server", "bookworm", _PACKAGES)


if __name__ == "__main__":
    try:
        print(program())
    except debian_packages.NotToBeHadError as error:
        sys.exit(str(error))
