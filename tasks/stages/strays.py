"""What lies among a run's shards and is none of them, because something cut, changed or copied it, goes before the run is read.

What is wanted of it, its stage writes again; what is not would keep the run from being read for ever.
"""

from __future__ import annotations

import logging
from itertools import chain

from tasks.run import Run
from tasks.stages.interventions import edits_id
from warehouse.facts.damage import BY_PEOPLE, COPY, damage_among
from warehouse.facts.shards import files_of

KEPT = (*BY_PEOPLE, "policies", "runs")  # damaged files that no stage writes again as they were
_log = logging.getLogger("cfx.stages")


def remove_strays(run: Run) -> None:
    """Remove the damaged files of a run and of its edits, and copies of shards under other names; what people wrote stays."""
    for one in damage_among(run.root, chain(files_of(run.root, run.id), files_of(run.root, edits_id(run)))):
        if one.wrong == COPY or one.fact not in KEPT:
            _log.warning("%s is removed, and written again if it is wanted: %s", one.file, one.wrong)
            (run.root / one.file).unlink(missing_ok=True)
