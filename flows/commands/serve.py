"""`cfx serve`: the explorer."""

from __future__ import annotations

from typing import Annotated

import typer

from cfx.errors import UserError
from flows.terminal import DEFAULT_WAREHOUSE, Warehouse, escaped, out, user_errors


def serve(
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8100,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    expose: Annotated[bool, typer.Option("--expose", help="allow an address that other machines can reach")] = False,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="another host name to answer to, repeatable; exposed: these alone, or any if none"),
    ] = None,
) -> None:
    """Browse audits in a web browser, and review their findings; on this machine alone unless --expose is given."""
    with user_errors():
        if not warehouse.is_dir():
            raise UserError(f"there is no warehouse at {warehouse}; give one with --warehouse, or make one with `cfx demo`")
        from tasks.reading.serve import listening
        from tasks.reading.serve import serve as served

        at = listening(host, port, expose)
        out.print(f"http://{escaped(host)}:{port}", soft_wrap=True)
        served(warehouse, at, host, expose, tuple(name or ()))
