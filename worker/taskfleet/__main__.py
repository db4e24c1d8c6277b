"""`python -m taskfleet` runs the command."""

from __future__ import annotations

from taskfleet.cli import main

if __name__ == "__main__":
    main()
