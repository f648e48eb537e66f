"""The explorer as a server: on this machine alone unless exposed."""

from __future__ import annotations

from pathlib import Path

import uvicorn

from cfx.errors import UserError
from warehouse.explorer.app import LOOPBACK, explorer, is_loopback


def serve(root: Path, host: str = "127.0.0.1", port: int = 8100, exposed: bool = False) -> None:
    """Serve the explorer until it is interrupted.

    Raises UserError for a host other than loopback unless exposed: anyone who reaches it sees the images and may review.
    """
    if not exposed and not is_loopback(host):
        raise UserError(
            f"--host: {host!r} can be reached from other machines, where anyone would see the images and could review; "
            "add --expose if that is meant"
        )
    app = explorer(root, ("*",) if exposed else (*LOOPBACK, host))
    uvicorn.run(app, host=host.strip("[]"), port=port, log_level="warning", server_header=False)
