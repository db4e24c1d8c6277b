"""The `taskfleet` command: every error is one line, every listing has `--json`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; exit 0 success, 1 failure, 2 usage."""
    try:
        from taskfleet.cli import app
    except ImportError as error:
        # Only the worker library is there: say which extra brings the command.
        print(f"taskfleet: {error.name} is missing; install it with: pip install 'taskfleet[cli]'", file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(app.run(sys.argv[1:]))
