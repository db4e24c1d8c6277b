"""The cluster itself, on which the other end-to-end tests rely."""

from __future__ import annotations

from e2e.cluster import base_image
from e2e.cluster.kubectl import ClusterCommand
from e2e.conftest import KubernetesCluster

# It ends at SIGTERM, which process 1 ignores by default: the pod is gone at once.
_SERVER = """
import http.server as http, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
http.ThreadingHTTPServer(("", 8000), http.SimpleHTTPRequestHandler).serve_forever()
"""


# kube-proxy sets the rules of a Service a moment after the Service exists, and no object reports that. Before that,
# packets to the Service leave the node, and something else may refuse or answer them.
_FETCH = """
import sys, time, urllib.request
until = time.monotonic() + 30
while True:
    try:
        print(urllib.request.urlopen(sys.argv[1], timeout=5).status)
        break
    except OSError:
        if time.monotonic() > until:
            raise
        time.sleep(0.1)
"""


def test_pods_are_reached_by_the_name_of_their_service(
    cluster: KubernetesCluster, kubectl: ClusterCommand, namespace: str
) -> None:
    image = base_image.ensure()
    cluster.load(image)
    kubectl(
        "create", "deployment", "web", f"--image={image}", "--port=8000", "--namespace", namespace, "--",
        "python3", "-c", _SERVER,
    )  # fmt: skip
    kubectl("expose", "deployment", "web", "--namespace", namespace)
    kubectl("rollout", "status", "deployment/web", "--timeout=60s", "--namespace", namespace)
    fetched = kubectl(
        "exec", "deployment/web", "--namespace", namespace, "--",
        "python3", "-c", _FETCH, f"http://web.{namespace}.svc:8000/",
    )  # fmt: skip
    assert fetched.strip() == "200"
    kubectl("logs", "deployment/web", "--namespace", namespace)
