"""The Helm chart and the definition of the resource, as this version has them."""

from __future__ import annotations

import shutil
from pathlib import Path

from taskfleet.errors import ConfigurationError

_CHART = Path("helm", "taskfleet")
_DEFINITION = Path("files", "taskqueue.yaml")


def chart() -> Path:
    """The folder of the chart: in the installed package, or in the repository that this module is run from."""
    here = Path(__file__).parent
    return next(folder for base in (here, here.parents[1]) if (folder := base / _CHART).is_dir())


def definition() -> str:
    """The CustomResourceDefinition, YAML."""
    return (chart() / _DEFINITION).read_text(encoding="utf-8")


def write_chart(folder: Path) -> None:
    """Copy the chart into `folder`, which is new or empty: a file of another version in it would be applied too."""
    try:
        if folder.exists() and any(folder.iterdir()):
            raise ConfigurationError(f"{folder}: is not empty; name a new folder for the chart")
        shutil.copytree(chart(), folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        raise ConfigurationError(f"{folder}: cannot be written: {getattr(error, 'strerror', None) or error}") from None
