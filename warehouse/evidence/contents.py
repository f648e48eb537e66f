"""What an archive holds: facts, which carry seals, and files that are made of them: written by export, made again by verify."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cfx.errors import UserError
from warehouse.evidence.model_card import model_card
from warehouse.evidence.results import Results
from warehouse.facts.schema import FACTS
from warehouse.lens.fetch import Row
from warehouse.lens.plain_json import as_json
from warehouse.report.embedded_numbers import steady
from warehouse.report.hashes import sums

README, CONFIG, SUMMARY, SUMS, SIGNATURE = "README.md", "config.yaml", "summary.json", "SHA256SUMS", "SIGNATURE"
SHARD, PAGE, TEXT = 512 << 20, 256 << 20, 64 << 20  # bytes that a fact, a report and each other file may have
_RUN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}"
_FACT = re.compile(rf"facts/(?P<fact>{'|'.join(FACTS)})/run_id=(?P<run>{_RUN})/{_RUN}\.parquet")
_REPORT = re.compile(rf"reports/(?P<run>{_RUN})\.(?P<kind>html|sha256)")


@dataclass(frozen=True)
class Claims:
    """What an archive says and its facts cannot: by what it was made, and the numbers of earlier runs that its report shows, as
    the report's JSON has them (`report.nights`). The report and the summary both say it."""

    made_by: str | None
    earlier: dict[str, Any] | None


def fact_of(name: str) -> tuple[str, str] | None:
    """The fact and the run of a file, by its name; None for any other file."""
    found = _FACT.fullmatch(name)
    return (found["fact"], found["run"]) if found else None


def report_of(name: str) -> str | None:
    """The run whose report, or list of hashes, has this name; None for any other file."""
    found = _REPORT.fullmatch(name)
    return found["run"] if found else None


def most_bytes(name: str) -> int | None:
    """How large a file of an archive may be; None for a name that no archive has."""
    if fact_of(name):
        return SHARD
    if name.endswith(".html") and report_of(name):
        return PAGE
    return TEXT if report_of(name) or name in (README, CONFIG, SUMMARY, SUMS, SIGNATURE) else None


def made_files(results: Results, facts: Mapping[str, str], claims: Claims) -> dict[str, bytes]:
    """The files on top, from what a run found. facts: the hash of every fact in the archive, by file."""
    config = json.loads(results.run["config"])
    return {
        CONFIG: yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode(),
        README: model_card(results).encode(),
        SUMMARY: as_json(steady(_summary(results, facts, claims)), indent=2).encode(),
    }


def read_claims(summary: bytes) -> Claims:
    """What a summary claims; that of an earlier version claims nothing. Raises UserError where it is no summary."""
    try:
        read = json.loads(summary)
        made_by, earlier = read.get("made_by"), read.get("earlier_runs")
    except (ValueError, RecursionError, AttributeError) as error:
        raise UserError(f"it cannot be read: {error}") from error
    if not isinstance(made_by, str | None) or not isinstance(earlier, dict | None):
        raise UserError("it does not say by what it was made")
    return Claims(made_by, earlier)


def listed_facts(summary: bytes) -> dict[str, str]:
    """The hashes of facts by file that a summary has; none of one that cannot be read, or of an earlier version."""
    try:
        facts = json.loads(summary).get("facts")
    except (ValueError, RecursionError, AttributeError):
        return {}
    return {str(name): str(digest) for name, digest in facts.items()} if isinstance(facts, dict) else {}


def digest_of(listed: bytes) -> str:
    """The one digest of an archive: the SHA-256 of its SHA256SUMS, which has the SHA-256 of every other file but SIGNATURE."""
    return f"sha256:{hashlib.sha256(listed).hexdigest()}"


def sums_of(files: Mapping[str, str]) -> bytes:
    """SHA256SUMS, from the hashes of all files."""
    return sums({name: digest for name, digest in files.items() if name not in (SUMS, SIGNATURE)})


def hash_of(content: bytes | Path) -> str:
    """SHA-256 of a file, hex; of one that may be large without reading it whole."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _summary(results: Results, facts: Mapping[str, str], claims: Claims) -> Row:
    gate = results.gate
    return {
        "run": results.run,
        "headline": results.verdict.headline,
        "gate": None if gate is None else {"verdict": gate.verdict, "reasons": gate.reasons},
        "accuracy": results.accuracy,
        "attributes": results.attributes,
        "explained": results.explained,
        "findings": results.claims,
        "scorecard": results.scorecard,
        "rules": [] if gate is None else gate.rules,
        "earlier_runs": claims.earlier,
        "facts": dict(sorted(facts.items())),
        "made_by": claims.made_by,
    }
