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
# The pip settings that say how packages are reached; local paths would mean nothing in an image.
_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")
_CERTIFICATE_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


def ensure() -> str:
    """Have the base image in the engine, made anew when its recipe or this machine's settings changed; its tag."""
    settings, certificates = _pip_configuration(), _certificates()
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


def _pip_configuration() -> str:
    """This machine's settings for reaching packages, as a pip.conf."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, errors="replace"
    )
    # A Python without pip has no settings of its own, but the variables are there for pip in the image.
    lines = listed.stdout.splitlines() if listed.returncode == 0 else []
    settings: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition("=")
        setting = name.rpartition(".")[2]
        if setting in _PIP_SETTINGS:
            settings[setting] = value.strip("'")
    for setting in _PIP_SETTINGS:
        if variable := os.environ.get(f"PIP_{setting.upper().replace('-', '_')}"):
            settings[setting] = variable
    return "[global]\n" + "".join(f"{setting} = {value}\n" for setting, value in settings.items())


def _certificates() -> Path | None:
    """The bundle of certificates that this machine's variables name, when they name one."""
    for variable in _CERTIFICATE_VARIABLES:
        if (named := os.environ.get(variable)) and (bundle := Path(named)).is_file():
            return bundle
    return None
