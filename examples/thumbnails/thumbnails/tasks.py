"""One task: make a thumbnail of a photograph and describe it."""

from __future__ import annotations

import io
import itertools
from dataclasses import dataclass

from PIL import Image
from taskfleet import TaskQueue

from thumbnails import photos

queue = TaskQueue.from_config(queues=["default"])

_HASH_SIDE = 8


@dataclass(frozen=True)
class Thumbnail:
    """A thumbnail: its pixels, the size of its JPEG in bytes, and its difference hash in hexadecimal."""

    photo: str
    width: int
    height: int
    bytes: int
    dhash: str


# A plain function runs in a thread. Pillow releases the interpreter's lock while it decodes and scales.
# A retry cannot succeed for a photograph that does not exist or for an invalid width.
@queue.task(name="thumbnail", queue="default", timeout=60, never_retry=(photos.UnknownPhotoError, ValueError))
def make_thumbnail(photo: str, width: int) -> Thumbnail:
    """Scale a photograph to `width` pixels, keep its proportions, and encode it as JPEG."""
    if width < 1:
        raise ValueError(f"width={width} must be at least 1 pixel")
    with Image.open(photos.path_of(photo)) as original:
        height = max(1, round(original.height * width / original.width))
        small = original.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=85, optimize=True)
    return Thumbnail(photo, width, height, encoded.tell(), difference_hash(small))


def difference_hash(image: Image.Image) -> str:
    """64 bits as 16 hexadecimal digits: for each of 8 x 8 pixels, whether it is brighter than its right neighbour.

    Images that look alike differ in few bits, whatever their size.
    """
    grey = image.convert("L").resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.LANCZOS)
    rows = [grey.crop((0, y, _HASH_SIDE + 1, y + 1)).tobytes() for y in range(_HASH_SIDE)]
    bits = [left > right for row in rows for left, right in itertools.pairwise(row)]
    return f"{sum(bit << position for position, bit in enumerate(reversed(bits))):016x}"
