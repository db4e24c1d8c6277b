"""The photographs in the wheel of scikit-image, found without importing it."""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path, PurePosixPath

NAMES = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
_FOLDER = PurePosixPath("skimage/data")


class UnknownPhotoError(LookupError):
    """No installed photograph has that name."""


def path_of(name: str) -> Path:
    """The path of an installed photograph.

    Raises:
        UnknownPhotoError: the name is not in `NAMES`.
        ModuleNotFoundError: the photographs are not installed.
    """
    installed = _installed()
    if not installed:
        raise ModuleNotFoundError("the photographs are not installed: pip install --no-deps -r photos.txt")
    try:
        return installed[name]
    except KeyError:
        raise UnknownPhotoError(f"no photograph is called {name!r}; there are {', '.join(NAMES)}") from None


@functools.cache
def _installed() -> dict[str, Path]:
    # The installation record lists every file. Importing scikit-image would need numpy and scipy.
    try:
        files = importlib.metadata.files("scikit-image") or ()
    except importlib.metadata.PackageNotFoundError:
        files = ()
    return {file.name: Path(str(file.locate())) for file in files if file.parent == _FOLDER and file.name in NAMES}
