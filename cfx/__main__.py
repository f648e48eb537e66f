"""`python -m cfx`: the command line, also where no `cfx` is on the path."""

from __future__ import annotations

from flows.cli import app

app(prog_name="cfx")
