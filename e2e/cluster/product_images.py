"""The images that end-to-end tests run: the product's own from its Dockerfiles, and a Redis."""

from __future__ import annotations

from pathlib import Path

from e2e.cluster import base_image, engine
from e2e.cluster.cache import progress

_REPOSITORY = Path(__file__).parents[2]
# In this order: a Dockerfile may start from an image before it.
_DOCKERFILES = {
    "taskfleet-redis:dev": "e2e/cluster/redis.Dockerfile",
    "taskfleet-worker:dev": "Dockerfile.worker",
    "taskfleet-operator:dev": "Dockerfile.operator",
    "taskfleet-thumbnails:dev": "examples/thumbnails/Dockerfile",
}
TAGS: tuple[str, ...] = tuple(_DOCKERFILES)


def build() -> tuple[str, ...]:
    """Build every image from the checkout; the engine's layer cache makes an unchanged one quick.

    Returns:
        Their tags.
    """
    engine.ensure()
    base = base_image.ensure()
    for tag, dockerfile in _DOCKERFILES.items():
        with progress(f"built {tag}"):
            engine.docker(
                "build", "--quiet", "--network=host", "--build-arg", f"BASE_IMAGE={base}", "--tag", tag,
                "--file", str(_REPOSITORY / dockerfile), str(_REPOSITORY),
            )  # fmt: skip
    return TAGS
