"""What an audit tells Prefect: events, which the automations of flows/automations turn into a notification."""

from __future__ import annotations

from typing import Any

from prefect.events import Event, emit_event


def send_event(what: str, audit: str, message: str, **details: Any) -> Event | None:
    """Emit `cfx.<what>` about the audit of this name; returns the event, or None where no server takes events.

    what: `gate.fail`, `gate.warn`, `gate.inconclusive` or `gate.pass`; `audit.error`; or `alarm.<kind>`, for something else
    that should wake somebody. Automations match the resource `cfx.audit.<name>`. message: one line for people, which
    notifications show. details: plain values for machines beside it; of these, notifications show `headline` and `report`.

    Sent from the run of a deployment, the event is about that run, too: Prefect adds flow run, deployment and tags.
    """
    resource = {"prefect.resource.id": f"cfx.audit.{audit}", "prefect.resource.name": audit}
    return emit_event(event=f"cfx.{what}", resource=resource, payload={"message": message, **details})
