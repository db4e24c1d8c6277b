"""`python -m e2e.cluster`: the test cluster from the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from e2e.cluster import binaries, engine, kind_cluster, product_images
from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import ClusterCommand


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 on success, else 1 with one line on standard error."""
    chosen = _parser().parse_args(arguments)
    try:
        return _run(chosen)
    except ClusterError as failed:
        print(f"cluster: {failed}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description="A real Kubernetes for tests.")
    parser.add_argument(
        "--kubeconfig", type=Path, help="use this cluster instead of making one (for up, status and kubeconfig)"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="make a cluster; prints its kubeconfig")
    commands.add_parser("down", help="delete it, and stop the Docker engine if it was started here")
    commands.add_parser("status", help="print the state; exit 1 when there is no cluster")
    commands.add_parser("kubeconfig", help="print the path of its kubeconfig")
    commands.add_parser("images", help="build the product's images; prints their tags")
    load = commands.add_parser("load", help="load images from the Docker engine into the node")
    load.add_argument("image", nargs="+")
    build = commands.add_parser("binaries", help="build Kubernetes and its tools; prints their paths")
    build.add_argument("name", nargs="*", help=f"all by default: {', '.join(binaries.NAMES)}")
    return parser


def _run(chosen: argparse.Namespace) -> int:
    match chosen.command:
        case "up":
            print(_foreign(chosen.kubeconfig) if chosen.kubeconfig else kind_cluster.up())
        case "down":
            stopped = kind_cluster.down()
            print("the cluster is deleted" + (", the Docker engine is stopped" if stopped else ""))
        case "status":
            return _status(chosen.kubeconfig)
        case "kubeconfig":
            print(chosen.kubeconfig or kind_cluster.kubeconfig())
        case "images":
            print("\n".join(product_images.build()))
        case "load":
            loaded = kind_cluster.load(*chosen.image)
            print("\n".join(loaded) or "the node has them already")
        case "binaries":
            print("\n".join(map(str, binaries.ensure(*(chosen.name or binaries.NAMES)).values())))
    return 0


def _foreign(kubeconfig: Path) -> Path:
    """Check that another cluster answers."""
    ClusterCommand(binaries.ensure("kubectl")["kubectl"], kubeconfig)("get", "--raw", "/readyz", timeout=30)
    return kubeconfig


def _status(kubeconfig: Path | None) -> int:
    if kubeconfig is None:
        print("engine:     " + ("answers" if engine.answers() else "none"))
        if not kind_cluster.running():
            print("cluster:    none (python -m e2e.cluster up)")
            return 1
        kubeconfig = kind_cluster.kubeconfig()
    print(f"kubeconfig: {kubeconfig}")
    print(ClusterCommand(binaries.ensure("kubectl")["kubectl"], kubeconfig)("get", "nodes", timeout=30), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
