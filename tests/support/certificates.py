"""Certificates for servers and clients of this machine, made for one test run."""

from __future__ import annotations

from pathlib import Path

import trustme


class Certificates:
    """An authority with a server's certificate for 127.0.0.1 and `redis.test`, and a client's."""

    def __init__(self, folder: Path, *, names: tuple[str, ...] = ("127.0.0.1", "redis.test")) -> None:
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        self.server, self.server_key = _write(authority.issue_cert(*names), folder, "server")
        self.client, self.client_key = _write(authority.issue_cert("client.test"), folder, "client")

    def options(self, port: int, *, clients: bool = True) -> tuple[str, ...]:
        """Server options: TLS on `port`; `clients` must show a certificate of the same authority."""
        return (
            "--tls-port", str(port), "--tls-cert-file", str(self.server), "--tls-key-file", str(self.server_key),
            "--tls-ca-cert-file", str(self.ca), "--tls-auth-clients", "yes" if clients else "no",
        )  # fmt: skip

    def settings(self, *, clients: bool = True) -> dict[str, str | bool]:
        """The `[redis]` settings of a client that fits."""
        mine = {"tls_cert_file": str(self.client), "tls_key_file": str(self.client_key)} if clients else {}
        return {"tls": True, "tls_ca_file": str(self.ca), **mine}


def _write(issued: trustme.LeafCert, folder: Path, name: str) -> tuple[Path, Path]:
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    return certificate, key
