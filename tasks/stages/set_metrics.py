"""The comparing stage: metrics of whole sets of images, read off their features without ever holding all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

import duckdb
import torch
from torch import Tensor

from cfx.metrics.frechet import Moments, frechet_distance, kernel_distance
from tasks.run import Run
from tasks.stage import Rows, stage
from tasks.stages.encoders import absences, encoders_for
from tasks.stages.unmeasured import COUNTS, unmeasured
from warehouse.lens.connect import open_warehouse

SPLITS = 10  # of the images into halves, for sFID and KID
SUBSET = 1000  # images of a half that KID compares, as is usual
GROUPS = 10  # of images, one left out at a time, for FID's interval
T_95 = 2.2622  # Student's t for GROUPS - 1 degrees of freedom, 95 % two-sided
ROWS = 1024  # features read at a time
TOO_FEW = "a set has fewer than two images, in all or in one of its halves"

Row = dict[str, Any]

# `part`: which of `parts` equal parts an image falls into by a hash of its id, so that a split does not depend on order.
# `drawn`: whether it is in the subset of its part that KID compares.
COMPARED = """
    select side, floor(lot * $parts)::int as part, lot * $parts % 1 < $share as drawn, vector
    from (
        select side, vector, ('0x' || md5($split || ':' || image_id)[:8])::bigint / 4294967296 as lot
        from compared where run_id = $run and method = $method and encoder = $encoder
    )
"""
CROSSED = """
    select side, if(towards = 'first', 0, 1) as part, false as drawn, vector
    from crossed where run_id = $run and method = $method and encoder = $encoder
"""


class Sets(NamedTuple):
    """Both sides of a comparison, part by part."""

    real: dict[int, Moments]
    counterfactual: dict[int, Moments]
    drawn_real: dict[int, Tensor]
    drawn_counterfactual: dict[int, Tensor]

    def counts(self) -> Row:
        """The columns `n` and `n_real`."""
        return {"n": sum(m.n for m in self.counterfactual.values()), "n_real": sum(m.n for m in self.real.values())}

    def both(self, parts: Sequence[int]) -> bool:
        """Whether either side has two images or more in each of these parts."""
        return all(side[part].n > 1 if part in side else False for side in (self.real, self.counterfactual) for part in parts)


@stage("set_metrics")
def compare_sets(run: Run) -> Rows:
    """FID, sFID, KID and crossover FID of a run under each of its encoders, and a row for every metric that it cannot have."""
    method = run.config.ladder[0].method
    missing = absences(run)
    with open_warehouse(run.root, sql=COUNTS, runs=[run.id]) as lens:
        missing += unmeasured(run, lens)
    rows = [_row(absent.metric, absent.encoder, absent=absent.reason) for absent in missing]
    with open_warehouse(run.root, sql=f"{COMPARED};{CROSSED}", runs=[run.id]) as lens:
        for encoder in encoders_for(run):
            parameters = {"run": run.id, "method": method, "encoder": encoder}
            rows += [_fid(lens, parameters), *_halves(lens, parameters), _crossover(lens, parameters)]
    return {name: [row[name] for row in rows] for name in rows[0]} | {"method": [method] * len(rows)}


def _row(metric: str, encoder: str | None, **known: Any) -> Row:
    """One row of set_metrics, less its method. Nine decimals: more would depend on the order in which rows are read."""
    empty = dict.fromkeys(("value", "splits", "sd", "low", "high", "absent"))
    row = empty | {"metric": metric, "encoder": encoder, "n": 0, "n_real": 0} | known
    return {name: round(value, 9) if isinstance(value, float) else value for name, value in row.items()}


def _fid(lens: duckdb.DuckDBPyConnection, parameters: Row) -> Row:
    """FID of flipped counterfactuals against all originals; its interval by the jackknife, a tenth of the images left out."""
    sets = _gather(lens, COMPARED, parameters | {"parts": GROUPS, "split": "groups", "share": 0.0})
    known = sets.counts()
    if min(known.values()) < 2:
        return _row("fid", parameters["encoder"], absent=TOO_FEW, **known)

    def fid(left_out: int | None) -> float:
        sides = ([side[part] for part in side if part != left_out] for side in (sets.real, sets.counterfactual))
        real, counterfactual = map(Moments.together, sides)
        return frechet_distance(real, counterfactual)

    value = fid(None)
    if not sets.both(range(GROUPS)):
        return _row("fid", parameters["encoder"], value=value, **known)
    without = [fid(group) for group in range(GROUPS)]
    error = (GROUPS - 1) / GROUPS**0.5 * stdev(without)  # Tukey's: sqrt((G - 1) / G sum of squares)
    return _row("fid", parameters["encoder"], value=value, low=max(0.0, value - T_95 * error), high=value + T_95 * error, **known)


def _halves(lens: duckdb.DuckDBPyConnection, parameters: Row) -> list[Row]:
    """sFID and KID, means over splits of the images into halves, so that no image meets its own counterfactual."""
    images = lens.execute(
        "select count(distinct image_id) from compared where run_id = $run and method = $method and encoder = $encoder",
        parameters,
    ).fetchone()
    share = min(1.0, 2 * SUBSET / max(1, images[0] if images else 0))
    sfids, kids, known = [], [], {"n": 0, "n_real": 0}
    for split in range(SPLITS):
        sets = _gather(lens, COMPARED, parameters | {"parts": 2, "split": str(split), "share": share})
        known = sets.counts()
        if sets.both((0, 1)):
            sfids.append(fmean(frechet_distance(sets.real[half], sets.counterfactual[1 - half]) for half in (0, 1)))
            kids.append(fmean(kernel_distance(sets.drawn_real[half], sets.drawn_counterfactual[1 - half]) for half in (0, 1)))
    return [_mean("sfid", parameters["encoder"], sfids, known), _mean("kid", parameters["encoder"], kids, known)]


def _crossover(lens: duckdb.DuckDBPyConnection, parameters: Row) -> Row:
    """Mean, over the directions that the run has, of FID between counterfactuals and the real images of where they go."""
    sets = _gather(lens, CROSSED, parameters)
    towards = [half for half in (0, 1) if sets.both((half,))]
    found = [frechet_distance(sets.real[half], sets.counterfactual[half]) for half in towards]
    return _mean("crossover_fid", parameters["encoder"], found, sets.counts())


def _mean(metric: str, encoder: str, values: Sequence[float], known: Row) -> Row:
    if not values:
        return _row(metric, encoder, absent=TOO_FEW, **known)
    spread = stdev(values) if len(values) > 1 else None
    return _row(metric, encoder, value=fmean(values), splits=len(values), sd=spread, **known)


def _gather(lens: duckdb.DuckDBPyConnection, sql: str, parameters: Row) -> Sets:
    """The moments of every side and part, a batch of rows at a time, and the rows that are drawn."""
    sums: dict[tuple[str, int], Moments] = {}
    drawn: defaultdict[tuple[str, int], list[Tensor]] = defaultdict(list)
    for batch in lens.execute(sql, parameters).to_arrow_reader(ROWS):
        rows = torch.from_numpy(batch["vector"].flatten().to_numpy(zero_copy_only=False).copy()).view(len(batch), -1)
        keys = list(zip(batch["side"].to_pylist(), batch["part"].to_pylist(), strict=True))
        chosen = torch.tensor(batch["drawn"].to_pylist())
        for key in set(keys):
            mine = torch.tensor([other == key for other in keys])
            part = Moments.of(rows[mine])
            sums[key] = Moments.together([sums[key], part]) if key in sums else part
            drawn[key].append(rows[mine & chosen])
    sides = [{part: value for (side, part), value in sums.items() if side == name} for name in ("real", "counterfactual")]
    subsets = [
        {part: torch.cat(found) for (side, part), found in drawn.items() if side == name} for name in ("real", "counterfactual")
    ]
    return Sets(sides[0], sides[1], subsets[0], subsets[1])
