"""`python -m tux`."""

from __future__ import annotations

from tux.cli import main

if __name__ == "__main__":
    main()
