"""`cfx mcp`: the warehouse for agents."""

from __future__ import annotations

from cfx.errors import UserError
from flows.terminal import DEFAULT_WAREHOUSE, Warehouse, user_errors


def mcp(warehouse: Warehouse = DEFAULT_WAREHOUSE) -> None:
    """Let an agent read the warehouse: a server of the Model Context Protocol on standard input and output, read-only."""
    with user_errors():
        if not warehouse.is_dir():
            raise UserError(f"there is no warehouse at {warehouse}; give one with --warehouse, or make one with `cfx demo`")
        try:
            from tasks.reading.agents import server
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in ("mcp", "mcp_types"):
                raise
            raise UserError("`cfx mcp` needs the extra `mcp`: pip install 'cfx-audit[mcp]'") from error
        server(warehouse).run()
