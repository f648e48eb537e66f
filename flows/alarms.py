"""Where alarms go: a block of Prefect's that holds the address, and the automation of flows/automations that calls it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from prefect.blocks.notifications import PagerDutyWebHook, SendgridEmail, SlackWebhook
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.events.schemas.automations import AutomationCore

from cfx.errors import UserError

TEMPLATES = Path(__file__).parent / "automations"
BLOCKS: dict[str, type[Any]] = {
    "slack": SlackWebhook,
    "email": SendgridEmail,
    "pagerduty": PagerDutyWebHook,
    "webhook": Webhook,
}


def send_alarms(kind: str, fields: dict[str, Any]) -> str:
    """Save the block `cfx-<kind>` with these fields and create its automation, or replace both. Returns the automation's name.

    Raises UserError for values that the block cannot work with; they let anyone write there, and are not repeated.
    """
    url = urlsplit(fields.get("url", "https://host"))
    if url.scheme not in ("http", "https") or not url.hostname:
        raise UserError("not an http:// or https:// address")
    try:
        block = BLOCKS[kind](**fields)
    except (TypeError, ValueError):  # of apprise or pydantic, with the value in it
        block = None
    if block is None or not getattr(block, "_apprise_client", True):  # apprise: an address of which it knows no service
        raise UserError(f"{kind}: these are no values for Prefect's block {BLOCKS[kind].__name__}; check {', '.join(fields)}")
    document = block.save(f"cfx-{kind}", overwrite=True)
    text = (TEMPLATES / f"{kind}.yaml").read_text(encoding="utf-8").replace("BLOCK", str(document))
    automation = AutomationCore.model_validate(yaml.safe_load(text))
    with get_client(sync_client=True) as client:
        there = client.read_automations_by_name(automation.name)
        for each in there[1:]:
            client.delete_automation(each.id)
        if there:
            client.update_automation(there[0].id, automation)
        else:
            client.create_automation(automation)
    return automation.name
