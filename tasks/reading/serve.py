"""The explorer as a server: on this machine alone unless exposed."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

from cfx.errors import UserError

WAITING = 2048  # connections that wait for their turn


def is_loopback(host: str) -> bool:
    """Whether a server on this host can be reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def listening(host: str = "127.0.0.1", port: int = 8100, exposed: bool = False) -> socket.socket:
    """A socket at this address, for `serve`.

    Raises UserError for a host other than loopback unless exposed: anyone who reaches it sees the images and may review; and for
    an address that cannot be taken.
    """
    if not exposed and not is_loopback(host):
        raise UserError(
            f"--host: {host!r} can be reached from other machines, where anyone would see the images and could review; "
            "add --expose if that is meant"
        )
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UserError(f"--host: {host!r} is no address of this machine: {error.strerror or error}") from error
    taken = socket.socket(family, kind, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        reason = error.strerror or error
        raise UserError(f"{host}:{port} cannot be listened on: {reason}; take another --port or --host") from error
    taken.listen(WAITING)
    return taken


def serve(root: Path, at: socket.socket, host: str = "127.0.0.1", exposed: bool = False, names: tuple[str, ...] = ()) -> None:
    """Serve the explorer at a socket of `listening` until it is interrupted.

    names: host names that it answers to beside those of this machine; an exposed one answers to these alone, or to any if there
    are none. In a container, which has to listen on all addresses, they keep out pages that point a name of their own at it.
    """
    import uvicorn

    from warehouse.explorer.app import LOOPBACK, explorer

    app = explorer(root, (names or ("*",)) if exposed else (*LOOPBACK, host, *names))
    uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False)).run(sockets=[at])
