"""Is a draft of Annex IV still what its facts say? It is written anew, and its numbers and lines are held against that."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from cfx.errors import UserError
from warehouse.evidence.verify import Verification, ask, compare
from warehouse.report.annex_iv import NUMBERS, TO_FILL_IN, annex_iv
from warehouse.report.embedded_numbers import numbers_in
from warehouse.report.hashes import run_files


def write_annex_iv(root: Path, run_id: str, to: Path) -> Path:
    """Write the draft. Raises UserError for an unknown run, and for a file that is there: a person may have filled it in."""
    if to.exists():
        raise UserError(f"{to} is there already, and may have been filled in; name another file with --out, or remove it")
    text = annex_iv(root, run_id)
    with to.open("x", encoding="utf-8") as file:
        file.write(text)
    return to


def verify_annex_iv(root: Path, path: Path) -> Verification:
    """Verify a draft, filled in or not, against the warehouse that it was written from.

    Every number of its queries is recomputed, by the queries of today's draft and not by what the file may hold in their place.
    Of the text, each line with numbers that cfx wrote has to be there unaltered; what a person added is left to that person.
    Raises UserError where there is no draft.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    text, run_id, before = _read(path, path.read_text(encoding="utf-8", errors="replace"))
    today, _, now = _read(path, annex_iv(root, run_id))
    differing = [f"{name}: another query than today's" for name in now if before.get(name, {}).get("sql") != now[name]["sql"]]
    alike = {name: before[name] for name in now if before.get(name, {}).get("sql") == now[name]["sql"]}
    counted, same, changed = compare(alike, ask(root, run_id, alike))
    there = Counter(text.splitlines())
    for line in today.splitlines():
        n = 0 if TO_FILL_IN in line else len(numbers_in(line))
        counted += n
        if n and not there[line]:
            changed.append(f"not in the file: {line}")
        else:
            same += n
        there[line] -= 1
    return Verification(run_id, counted, same, [*differing, *changed], len(run_files(root, run_id)), [])


def _read(path: Path, draft: str) -> tuple[str, str, dict[str, Any]]:
    """A draft's text, its run, and its queries with their answers."""
    text, found, rest = draft.partition(f"\n{NUMBERS}")
    if not found:
        raise UserError(f"{path} is no draft of `cfx export annex-iv`, or has lost its last line, which holds the queries")
    try:
        content = json.loads(rest.partition(" -->")[0])
        run_id, questions = content["run_id"], content["questions"]
        if isinstance(run_id, str) and all({"sql", "rows"} <= each.keys() for each in questions.values()):
            return text, run_id, questions
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(f"{path}: its last line, which holds the queries, is not whole")
