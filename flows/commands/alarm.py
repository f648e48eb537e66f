"""`cfx alarm`: who is told when a scheduled audit fails."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from cfx.errors import UserError
from cfx.masking import declare_value, masked
from flows.terminal import escaped, out, settle, user_errors

FIELDS = {  # of the block, in the order in which they are needed; True: secret
    "slack": {"url": True},
    "email": {"api_key": True, "sender_email": False, "to_emails": False},
    "pagerduty": {"integration_key": True, "api_key": True},
    "webhook": {"url": True},
}


def alarm(
    to: Annotated[Literal["slack", "email", "pagerduty", "webhook"], typer.Argument(help="email: through SendGrid")],
) -> None:
    """Send the alarms of scheduled audits somewhere: a failed release check, an audit that breaks or dies.

    Creates a block and an automation on the Prefect server at PREFECT_API_URL, or replaces them. The address and keys are read
    from CFX_ALARM_URL, CFX_ALARM_API_KEY and so on, or asked for; they are kept in the block alone.
    """
    with user_errors():
        settle(quiet=True)
        from prefect.settings import get_current_settings

        server = get_current_settings().api.url
        if not server:
            raise UserError("PREFECT_API_URL: set it to the address of the Prefect server, such as http://127.0.0.1:4200/api")
        fields: dict[str, str | list[str]] = {}
        for name, secret in FIELDS[to].items():
            variable = f"CFX_ALARM_{name.upper()}"
            fields[name] = given = os.environ.get(variable) or typer.prompt(variable, hide_input=secret)
            if secret:
                declare_value(given)
        if isinstance(addresses := fields.get("to_emails"), str):
            fields["to_emails"] = [address.strip() for address in addresses.split(",")]
        from flows.alarms import send_alarms

        name = send_alarms(to, fields)
    out.print(f"created on {escaped(masked(server))}: block cfx-{to}, automation “{name}”", soft_wrap=True)
