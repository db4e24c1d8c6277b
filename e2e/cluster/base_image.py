"""The image that the product's images start from in tests.

It is the published Python image where that can be pulled, else its stand-in from Debian. Either way it
gets this machine's pip settings and certificates: the Dockerfiles stay ordinary, and no address of this
machine is in a committed file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from e2e.cluster import debian, engine
from e2e.cluster.cache import locked, progress

TAG = "taskfleet-base:trixie"
_PUBLISHED = "python:3.13-slim"
_DOCKERFILE = Path(__file__).parent / "base.Dockerfile"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# The pip settings of the package index; local paths would mean nothing in an image.
_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")
_CERTIFICATE_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


def ensure() -> str:
    """Make the base image, anew when its recipe or this machine's settings changed; its tag."""
    pip_settings = _pip_settings()
    settings, certificates = _configuration(pip_settings), _certificates(pip_settings)
    recipe = hashlib.sha256(
        b"\0".join(
            (
                _DOCKERFILE.read_bytes(),
                debian.PYTHON.digest.encode(),
                settings.encode(),
                certificates.read_bytes() if certificates else b"",
            )
        )
    ).hexdigest()[:12]
    with locked("base-image"):
        if engine.has_image(TAG) and engine.label(TAG, "recipe") == recipe:
            return TAG
        if engine.pull(_PUBLISHED):
            root = _PUBLISHED
        else:
            root = engine.import_root(debian.PYTHON, debian.root_filesystem(debian.PYTHON))
        with progress(f"built {TAG}"), tempfile.TemporaryDirectory() as temporary:
            context = Path(temporary)
            machine = context / "machine"
            (machine / _CERTIFICATES.lstrip("/")).parent.mkdir(parents=True)
            if certificates:
                shutil.copy(certificates, machine / _CERTIFICATES.lstrip("/"))
                settings += f"cert = {_CERTIFICATES}\n"
            (machine / "etc" / "pip.conf").write_text(settings)
            engine.docker(
                "build", "--quiet", "--build-arg", f"ROOT={root}", "--label", f"recipe={recipe}", "--tag", TAG,
                "--file", str(_DOCKERFILE), str(context),
            )  # fmt: skip
    return TAG


def _pip_settings() -> dict[str, str]:
    """The pip settings of this machine, from files and variables, by name."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, errors="replace"
    )
    settings: dict[str, str] = {}
    # A Python without pip lists nothing; the variables are there all the same.
    for line in listed.stdout.splitlines() if listed.returncode == 0 else ():
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = value.strip("'")
    for name, value in os.environ.items():
        if name.startswith("PIP_") and value:
            settings[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return settings


def _configuration(settings: dict[str, str]) -> str:
    """A pip.conf with the settings of the package index."""
    kept = {name: value for name, value in sorted(settings.items()) if name in _PIP_SETTINGS}
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in kept.items())


def _certificates(settings: dict[str, str]) -> Path | None:
    """The bundle of certificates that pip or this machine's variables name, when they name one."""
    named = [settings.get("cert", ""), *(os.environ.get(variable, "") for variable in _CERTIFICATE_VARIABLES)]
    return next((Path(path) for path in named if path and Path(path).is_file()), None)
