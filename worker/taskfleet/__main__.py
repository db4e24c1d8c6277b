"""`python -m taskfleet` is the command too."""

from __future__ import annotations

from taskfleet.cli import main

if __name__ == "__main__":
    main()
