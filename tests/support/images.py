"""The images that tests and the demo deploy: made of Debian packages by tests/images, pushed to a registry."""

from tests.support.cluster import TOP
from tests.support.machine import run

BUILDER = TOP / "tests" / "images" / "build.py"


def push(registry):
    """Builds what is not built yet and pushes all of it to registry ("host:port", plain HTTP)."""
    run(BUILDER, "--push", registry, timeout=900)
