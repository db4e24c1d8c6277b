"""kopf, imported without the Kubernetes client.

kopf imports that client, if it is installed, to recognise its objects in handlers. The operator's handlers have none,
and the client takes 15 MB of memory; kopf works without it.
"""

from __future__ import annotations

import sys
from typing import Any, cast

__all__ = ["kopf"]

_CLIENT = "kubernetes"
_modules = cast("dict[str, Any]", sys.modules)  # None stands for a module that cannot be imported
_is_absent = _CLIENT not in _modules
if _is_absent:
    _modules[_CLIENT] = None
try:
    import kopf
finally:
    if _is_absent:
        del _modules[_CLIENT]
