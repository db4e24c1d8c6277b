"""A mutating admission webhook: an HTTPS server of the test that changes what is written, and counts its calls."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.support.certificates import Certificates

Object = dict[str, Any]


class MutatingWebhook:
    """`mutate(object)` returns the JSON patch for an object that is created or updated in one namespace."""

    def __init__(self, folder: Path, namespace: str, mutate: Callable[[Object], list[Object]]) -> None:
        self.namespace = namespace
        self.mutate = mutate
        self.reviews: list[tuple[str, bool]] = []
        """The kind of the object, and whether it was a dry run, of each call."""
        certificates = Certificates(folder)
        self._ca = certificates.ca
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = json.dumps(webhook._answer(review["request"])).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server, certificates.server_key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def writes(self, kind: str) -> int:
        """How often an object of this kind was written."""
        return sum(of == kind and not dry for of, dry in self.reviews)

    def configuration(self) -> Object:
        """The object that makes the API server ask."""
        rules = [
            {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": resources}
            for group, resources in (("apps", ["deployments"]), ("", ["services", "configmaps", "serviceaccounts"]))
        ]
        url = f"https://127.0.0.1:{self._server.server_address[1]}/"
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": f"mutating-{self.namespace}"},
            "webhooks": [
                {
                    "name": "mutate.example.com",
                    "admissionReviewVersions": ["v1"],
                    "sideEffects": "None",
                    "failurePolicy": "Fail",
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}},
                    "rules": rules,
                    "clientConfig": {"url": url, "caBundle": base64.b64encode(self._ca.read_bytes()).decode()},
                }
            ],
        }

    def _answer(self, request: Object) -> Object:
        self.reviews.append((request["kind"]["kind"], bool(request.get("dryRun"))))
        patch = base64.b64encode(json.dumps(self.mutate(request["object"])).encode()).decode()
        response = {"uid": request["uid"], "allowed": True, "patchType": "JSONPatch", "patch": patch}
        return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
