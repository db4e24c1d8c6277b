"""A real Kubernetes on one machine, from package registries alone.

`binaries` builds programs from Go modules; `controlplane` runs the bare control plane (no root);
`python -m e2e.cluster up` makes a cluster with a node. Only the standard library is used, so that
any python3 from 3.11 runs it before a virtual environment exists.
"""

from __future__ import annotations
