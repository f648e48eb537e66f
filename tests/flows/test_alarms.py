"""Alarms: blocks and automations on a real server, what they listen to and say, and the event of an audit that fails itself."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.events.clients import AssertingEventsClient
from prefect.events.worker import EventsWorker
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.server.utilities.user_templates import render_user_template_sync
from typer.testing import CliRunner

from cfx.errors import ConfigError
from flows.alarms import BLOCKS, TEMPLATES
from flows.cli import app
from flows.commands.alarm import FIELDS
from flows.deployed import nightly

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # of apprise

VALUES = {
    "url": "https://hooks.slack.com/services/T0AAAAAAA/B0AAAAAAA/Secret00000000000000000a",
    "api_key": "Secret-key",
    "integration_key": "0123456789abcdef0123456789abcdef",
    "sender_email": "cfx@example.org",
    "to_emails": "a@example.org, b@example.org",
}
DEPLOYED = [
    {"prefect.resource.id": "prefect.deployment.1", "prefect.resource.role": "deployment"},
    {"prefect.resource.id": "prefect.tag.cfx", "prefect.resource.role": "tag"},
]
MESSAGE = 'Release check failed: "hat" effect +23.3 points'


def template(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((TEMPLATES / f"{kind}.yaml").read_text())
    return found


def happened(event: str, related: list[dict[str, str]], resource: str = "cfx.audit.toy") -> ReceivedEvent:
    payload = {"message": MESSAGE, "headline": "It relies on hat", "report": "https://host/toy-1.html"}
    about = {"prefect.resource.id": resource, "prefect.resource.name": "toy"}
    when = datetime.now(UTC)
    return ReceivedEvent(occurred=when, received=when, event=event, resource=about, related=related, payload=payload, id=uuid4())


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_command_makes_block_and_automation_and_given_again_replaces_both(
    kind: str, prefect_server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FIELDS[kind]:
        monkeypatch.setenv(f"CFX_ALARM_{name.upper()}", VALUES[name])
    for _ in range(2):
        ended = CliRunner().invoke(app, ["alarm", kind])
        assert ended.exit_code == 0 and f"block cfx-{kind}, automation “{template(kind)['name']}”" in ended.output
        assert not any(value in ended.output for value in VALUES.values())
    with get_client(sync_client=True) as client:
        (automation,) = client.read_automations_by_name(template(kind)["name"])
        block = client.read_block_document_by_name(f"cfx-{kind}", BLOCKS[kind].get_block_type_slug())
    assert automation.model_dump()["actions"][0]["block_document_id"] == block.id
    assert not any(value in automation.model_dump_json() for value in VALUES.values())


@pytest.mark.parametrize(
    ("kind", "field", "value", "words"),
    [
        ("slack", "url", "hooks.slack.com/services/Secret", "not an http:// or https:// address"),
        ("slack", "url", "https://hooks.slack.example/Secret", "block SlackWebhook; check url"),
        ("webhook", "url", "mailto://Secret", "not an http:// or https:// address"),
        ("email", "api_key", "no Secret key", "block SendgridEmail; check api_key, sender_email, to_emails"),
        ("pagerduty", "integration_key", "   ", "block PagerDutyWebHook; check integration_key, api_key"),
    ],
)
def test_what_cannot_work_is_refused_and_not_repeated(
    kind: str, field: str, value: str, words: str, prefect_server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FIELDS[kind]:
        monkeypatch.setenv(f"CFX_ALARM_{name.upper()}", value if name == field else VALUES[name])
    ended = CliRunner().invoke(app, ["alarm", kind])
    assert ended.exit_code == 2 and words in ended.output and "Secret" not in ended.output


@pytest.mark.parametrize("kind", BLOCKS)
def test_somebody_is_told_of_a_deployments_own_run_and_of_what_asks_for_it(kind: str) -> None:
    trigger = EventTrigger.model_validate(template(kind)["trigger"])

    def heard(event: str, related: list[dict[str, str]] = DEPLOYED, resource: str = "cfx.audit.toy") -> bool:
        received = happened(event, related, resource)
        return trigger.covers(received) and trigger.expects(received.event)

    assert all(map(heard, ("cfx.gate.fail", "cfx.audit.error", "cfx.alarm.drift")))
    assert not any(map(heard, ("cfx.gate.pass", "cfx.gate.inconclusive")))
    assert heard("cfx.gate.warn") == (kind != "pagerduty")
    assert heard("prefect.flow-run.Crashed", resource="prefect.flow-run.1")
    assert not heard("prefect.flow-run.Failed", resource="prefect.flow-run.1")  # of a failing gate it has its own event
    assert not heard("prefect.flow-run.Crashed", DEPLOYED[1:], "prefect.flow-run.1")  # the audit inside
    assert not heard("prefect.flow-run.Crashed", DEPLOYED[:1], "prefect.flow-run.1")  # not one of ours


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_notification_says_message_verdict_and_report(kind: str) -> None:
    (action,) = template(kind)["actions"]
    event = happened("cfx.gate.fail", DEPLOYED)
    context = {"event": event, "flow_run": {"state": {"message": "its process died"}}}
    said = {
        name: action[name].replace("flow_run|ui_url", "'http://page'")
        for name in ("subject", "body", "payload")
        if name in action
    }
    texts = {name: render_user_template_sync(text, context) for name, text in said.items()}
    if kind == "webhook":
        letter = json.loads(texts["payload"])
        assert (letter["event"], letter["audit"], letter["message"]) == ("cfx.gate.fail", "toy", MESSAGE)
        assert letter["details"]["report"] == "https://host/toy-1.html" and letter["flow_run"] == "http://page"
    else:
        assert texts["subject"] == f"cfx toy: {MESSAGE}"
        assert texts["body"].split("\n") == ["It relies on hat", "Report: https://host/toy-1.html", "Run: http://page"]
    event.payload.clear()  # Prefect's own event has other keys
    assert "its process died" in render_user_template_sync(said.get("subject", said.get("payload", "")), context)


@pytest.fixture
def events() -> Iterator[EventsWorker]:
    """The worker that sends events, with a client that keeps them."""
    EventsWorker.set_client_override(AssertingEventsClient)
    try:
        yield EventsWorker.instance()
    finally:
        EventsWorker.set_client_override(None)


def test_an_audit_that_fails_itself_says_so_in_one_event(
    prefect_server: dict[str, str], events: EventsWorker, tmp_path: Path
) -> None:
    (tmp_path / "toy.yaml").write_text("data: {images: nowhere}\nclassifier: {weights: nowhere.safetensors}\n")
    with pytest.raises(ConfigError):
        nightly(tmp_path / "toy.yaml")
    with pytest.raises(ConfigError):
        nightly(tmp_path / "gone.yaml")
    events.wait_until_empty()
    assert AssertingEventsClient.last is not None
    ours = [event for event in AssertingEventsClient.last.events if event.event.startswith("cfx.")]
    assert [(event.event, event.resource.name) for event in ours] == [("cfx.audit.error", "toy"), ("cfx.audit.error", "gone")]
    assert "there is no folder" in ours[0].payload["message"] and "gone.yaml" in ours[1].payload["message"]
