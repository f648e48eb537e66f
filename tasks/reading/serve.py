"""The explorer as a server: on this machine alone unless exposed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import uvicorn

from cfx.errors import UserError
from warehouse.explorer.app import LOOPBACK, explorer, is_loopback


def serve(
    root: Path,
    host: str = "127.0.0.1",
    port: int = 8100,
    exposed: bool = False,
    names: tuple[str, ...] = (),
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve the explorer until it is interrupted. ready: called once nothing is left to refuse.

    names: host names that it answers to beside those of this machine; an exposed one answers to these alone, or to any if there
    are none. In a container, which has to listen on all addresses, they keep out pages that point a name of their own at it.

    Raises UserError for a host other than loopback unless exposed: anyone who reaches it sees the images and may review.
    """
    if not exposed and not is_loopback(host):
        raise UserError(
            f"--host: {host!r} can be reached from other machines, where anyone would see the images and could review; "
            "add --expose if that is meant"
        )
    app = explorer(root, (names or ("*",)) if exposed else (*LOOPBACK, host, *names))
    ready()
    uvicorn.run(app, host=host.strip("[]"), port=port, log_level="warning", server_header=False)
