"""False alarms and missed shortcuts of `cfx trend`:  python benchmarks/nights.py [--quick] [--json] [--into FOLDER]

Classifiers of smiles answer a stock of portraits, and each portrait again with one attribute toggled, which stands for the edits
of an audit. 60 nights of a growing stock are then written as facts, as an audit writes them: a sample of 256 drawn by cfx's own
nightly draw, of which some files are refused; 64 of them edited, of which some edits do not count; accuracy, effects of nine
attributes, the explained share (ridge alone, for time), confidence and measured properties. Every night is judged by `cfx trend`
against those before it.

unchanged: the bundled planted classifier, all nights.
noisy: its answers differ a little every night, as of a service on other hardware.
anew: no image is kept from night to night.
large: nor is one, of a stock ten times as large (every portrait ten times over): most images are new.
grown: the bundled clean classifier, in whose training set glasses and label agree in .5 of the portraits, and from night 30 on
(the first is 0) the planted one, .9.
stronger: two that are trained for it, a correlation of .5 and of .9 (agreement .75 and .95).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, NamedTuple

sys.path.pop(0)  # benchmarks/, whose statistics.py would hide Python's own
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict

from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.evidence.explained import BOOTSTRAPS, log_odds, r2_of
from cfx.evidence.properties import PROPERTIES, property_table
from cfx.images import from_uint8
from cfx.portraits import ATTRIBUTES, Portrait, draw, render
from cfx.training.portraits import CLASSES
from tasks.data.drawing import drawn, drawn_for_night
from tasks.training.planted import Planting, train_planted
from warehouse.facts.shards import write_shard
from warehouse.trend.alarms import trend

Floats = NDArray[np.float64]
EDITED = tuple(name for name in ATTRIBUTES if name != "smile")
NIGHTS, CHANGES, AFTER = 60, 30, 3  # AFTER: nights that are judged once it has changed
SAMPLE, EDITS, LOOKED_AT = 256, 64, 96  # images a night; edited; that the explained share is of, as in an audit
START, ARRIVE = 700, 8  # images of the stock on the first night, and more every night
TIMES = 10  # as large a stock in the scenario `large`
REFUSED, COUNTED = 0.03, 0.7  # largest share of files refused in a night; share of edits that count
UNLIKE = 0.03  # sd of what an edit does beside its attribute, in probability
JITTER = 0.1  # sd of the noisy classifier's log-odds from night to night
SCENARIOS = {"unchanged": 4, "noisy": 1, "anew": 1, "large": 2, "grown": 2, "stronger": 1}  # repetitions
BEFORE_AND_AFTER = {"grown": ("clean", "planted"), "stronger": ("correlated .5", "correlated .9")}
GRADED = 100  # first seed; 0 and 1 were seen while the method was written


@dataclass(frozen=True)
class Answered:
    """What a classifier says of the stock: P(smiling) (N,), and with each of EDITED toggled, (N, A)."""

    p: Floats
    toggled: Floats


@dataclass(frozen=True)
class Stock:
    """All portraits that will ever be there."""

    labels: NDArray[np.bool_]
    attributes: NDArray[np.bool_]  # (N, 10)
    properties: Floats  # (N, P)
    answers: dict[str, Answered]  # by classifier


class Setting(NamedTuple):
    """A scenario, and the seed of its repetition."""

    scenario: str
    seed: int


def stock_of(into: Path, n: int, names: set[str]) -> Stock:
    """Portraits, measured once, and the answers of the classifiers of these names, kept in `into`."""
    people = list(draw(n, seed=2025))
    for name in sorted(names):
        if not (into / f"{name}-{n}.npz").exists():
            network = load_classifier(ClassifierConfig(weights=weights_of(into, name)))
            toggled = [_asked(network, [portrait.toggled(one) for _, portrait in people]) for one in EDITED]
            p = _asked(network, [portrait for _, portrait in people])
            np.savez(into / f"{name}-{n}.npz", p=p, toggled=np.stack(toggled, axis=1))
    kept = {name: np.load(into / f"{name}-{n}.npz") for name in names}
    pictures = np.stack([render(portrait) for _, portrait in people])
    attributes = np.array([portrait.attributes for _, portrait in people])
    answers = {name: Answered(one["p"], one["toggled"]) for name, one in kept.items()}
    return Stock(np.array([label for label, _ in people]), attributes, property_table(pictures), answers)


def weights_of(into: Path, name: str) -> Path:
    """Bundled, or trained now."""
    if name in ("clean", "planted"):
        return Path(f"portraits:{name}")
    planting = Planting(attributes=("glasses",), rho=float(name.removeprefix("correlated ")))
    return train_planted(into, planting, images=10_000, steps=1_200)


def _asked(network: torch.nn.Module, people: list[Portrait]) -> Floats:
    found = []
    with torch.no_grad():
        for start in range(0, len(people), 64):
            shown = np.stack([render(portrait) for portrait in people[start : start + 64]])
            found.append(network(from_uint8(torch.from_numpy(shown).permute(0, 3, 1, 2))).softmax(1)[:, 1].double().numpy())
    return np.concatenate(found)


def write_nights(root: Path, stock: Stock, setting: Setting) -> list[str]:
    """The facts of every night; returns the run ids."""
    chance = np.random.default_rng([setting.seed, 7])
    times = TIMES if setting.scenario == "large" else 1
    order = chance.permutation(times * len(stock.labels))  # in which portraits come into the stock
    counts = chance.random((len(order), len(EDITED))) < COUNTED
    beside = chance.normal(0, UNLIKE, (len(order), len(EDITED)))
    kept = 0.0 if setting.scenario in ("anew", "large") else 0.5
    runs = []
    for night in range(NIGHTS):
        there = order[: times * (START + ARRIVE * night)]
        files = [f"{i:05d}.png" for i in there]
        labels = [CLASSES[int(stock.labels[i % len(stock.labels)])] for i in there]
        chosen = there[drawn_for_night(files, labels, SAMPLE, kept, f"night {night} of {setting.seed}")]
        chosen = chosen[chance.random(len(chosen)) >= chance.uniform(0, REFUSED)]
        answered = stock.answers[BEFORE_AND_AFTER.get(setting.scenario, ("planted", "planted"))[night >= CHANGES]]
        jitter = chance.normal(0, JITTER, len(answered.p)) if setting.scenario == "noisy" else np.zeros(len(answered.p))
        runs.append(f"nightly-{night:03d}")
        _write_night(root, runs[-1], night, stock, chosen, _shaken(answered, jitter), counts, beside)
    return runs


def _shaken(answered: Answered, jitter: Floats) -> Answered:
    """Answers whose log-odds are off by so much."""
    if not jitter.any():
        return answered

    def off(p: Floats, by: Floats) -> Floats:
        return 1 / (1 + np.exp(-(np.log(p) - np.log1p(-p) + by)))

    clipped = (np.clip(values, 1e-6, 1 - 1e-6) for values in (answered.p, answered.toggled))
    return Answered(off(next(clipped), jitter), off(next(clipped), jitter[:, None]))


def _write_night(
    root: Path, run: str, night: int, stock: Stock, chosen: NDArray[np.int64], answered: Answered,
    counts: NDArray[np.bool_], beside: Floats,
) -> None:  # fmt: skip
    who = chosen % len(stock.labels)
    ids, labels, p = [f"{i:064x}" for i in chosen], [CLASSES[int(label)] for label in stock.labels[who]], answered.p[who]
    n = len(ids)
    began = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=night)
    row: dict[str, Any] = {
        "name": "nightly", "status": "finished", "started": began, "finished": began, "config": "{}", "config_hash": "",
        "fingerprints": json.dumps({"classifier": "aa"}), "code_version": "", "packages": "{}", "seeds": [0], "hardware": "",
        "classes": list(CLASSES), "target_attribute": "smile", "method": "fastdime", "margin": 0.1,
        "attempted": None, "explained": None, "flipped": None, "rejected": None,
    }  # fmt: skip
    write_shard(root, "runs", run, "finished", {name: [value] for name, value in row.items()})
    files = {"image_id": ids, "path": ids, "label": labels, "width": [64] * n, "height": [64] * n}
    write_shard(root, "images", run, "all", files | {"split": [None] * n, "png": [None] * n})
    both = np.stack([1 - p, p], axis=1).astype(np.float32)
    said = [CLASSES[int(value > 0.5)] for value in p]
    write_shard(root, "predictions", run, "all", {"image_id": ids, "class": said, "probabilities": both.tolist()})
    measured = {f"m_{name}": stock.properties[who, i] for i, name in enumerate(PROPERTIES)}
    write_shard(root, "properties", run, "all", {"image_id": ids} | measured)
    write_shard(root, "explained", run, "all", _explained(stock, who, p))
    edited = chosen[drawn(ids, labels, EDITS)]
    parts = [_effects(stock, edited, answered, name, place, counts, beside) for place, name in enumerate(EDITED)]
    write_shard(root, "effects", run, "all", {column: [value for part in parts for value in part[column]] for column in parts[0]})


def _effects(
    stock: Stock, edited: NDArray[np.int64], answered: Answered, name: str, place: int, counts: NDArray[np.bool_],
    beside: Floats,
) -> dict[str, Any]:  # fmt: skip
    """Edits of one attribute, alike redrawn and pasted, whose shams change nothing."""
    who = edited % len(stock.labels)
    n, before = len(edited), answered.p[who]
    after = np.clip(answered.toggled[who, place] + beside[edited, place], 0, 1)
    pairs = {arm: np.stack([1 - p, p], axis=1).astype(np.float32).tolist() for arm, p in (("before", before), ("after", after))}
    return {
        "image_id": [f"{i:064x}" for i in edited], "attribute": [name] * n, "edits": ["edits-1"] * n,
        "switched_on": (~stock.attributes[who, ATTRIBUTES.index(name)]).tolist(), "counted": counts[edited, place].tolist(),
        "side": [0.0] * n, "probabilities_before": pairs["before"], "probabilities_sham": pairs["before"],
        "probabilities_after": pairs["after"], "probabilities_pasted": pairs["after"],
        **{f"judge_{arm}": [None] * n for arm in ("before", "sham", "after", "pasted")},
    }  # fmt: skip


def _explained(stock: Stock, chosen: NDArray[np.int64], p: Floats) -> dict[str, Any]:
    """The share that label and attributes explain, with its bootstrap interval, of as many images as an audit looks at."""
    few = drawn([f"{i:064x}" for i in chosen], [None] * len(chosen), LOOKED_AT)
    y, x = log_odds(p[few]), np.column_stack([stock.labels[chosen][few], stock.attributes[chosen][few]]).astype(float)
    folds = KFold(8, shuffle=True, random_state=0)
    guessed = cross_val_predict(RidgeCV(np.logspace(-1, 4, 11)), x, y, cv=folds)
    draws = np.random.default_rng(0).integers(0, len(y), (BOOTSTRAPS, len(y)))
    low, high = np.quantile(r2_of(y, guessed, draws), (0.025, 0.975))
    share = float(r2_of(y, guessed, np.arange(len(y))[None])[0])
    row: dict[str, Any] = {
        "class": CLASSES[1], "inputs": "label and attributes", "r2": share, "low": float(low), "high": float(high),
        "model": "ridge", "names": True, "ceiling": True,
        "missing": 0.0, "missing_low": 0.0, "missing_high": 0.0, "cleared": True, "why": "",
        "n": len(y),
    }  # fmt: skip
    return {name: [value] for name, value in row.items()}


def judged(stock: Stock, setting: Setting) -> dict[str, Any]:
    """Alarms of every night, in order; and what single 95 % intervals, each night against the last, would have said."""
    with TemporaryDirectory() as folder:
        runs = write_nights(Path(folder), stock, setting)
        found = [trend(Path(folder), run) for run in runs[: CHANGES + AFTER if setting.scenario in BEFORE_AND_AFTER else NIGHTS]]
    alarms = [[alarm.change.subject for alarm in one.alarms if alarm.nights == 1] for one in found]
    lasting = [bool(one.alarms) for one in found]
    naive = [len(list(_naive(one.series, one.run_id, one.references[-1]))) if one.references else 0 for one in found]
    first = next((night for night, there in enumerate(lasting) if there and night >= CHANGES), None)
    return {
        "scenario": setting.scenario,
        "seed": setting.seed,
        "nights": len(found),
        "alarms": sum(map(len, alarms)),
        "alarming_nights": sum(lasting),
        "before_the_change": sum(map(len, alarms[:CHANGES])),
        "first_night": first if setting.scenario in BEFORE_AND_AFTER else None,
        "subjects": sorted({name for night in alarms for name in night}),
        "of_single_intervals": sum(naive),
    }


def _naive(series: dict[Any, list[dict[str, Any]]], now: str, before: str) -> Iterator[Any]:
    """Quantities whose change from one night to the next is beyond 1.96 standard errors, nights taken as independent."""
    for key, rows in series.items():
        two = {row["run_id"]: row for row in rows if row["run_id"] in (now, before) and row["low"] is not None}
        if len(two) == 2:
            error = np.hypot(*((row["high"] - row["low"]) / 2 for row in two.values()))
            if abs(two[now]["value"] - two[before]["value"]) > error:
                yield key


def summary_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By scenario: nights, alarms, months with any; of a shortcut that grows, how many nights it takes."""
    found = []
    for scenario in SCENARIOS:
        mine = [row for row in rows if row["scenario"] == scenario]
        if not mine:
            continue
        firsts = [row["first_night"] for row in mine]
        found.append(
            {
                "scenario": scenario,
                "repetitions": len(mine),
                "alarms": [row["alarms"] for row in mine],
                "of_single_intervals": [row["of_single_intervals"] for row in mine],
                "before_the_change": [row["before_the_change"] for row in mine],
                "nights_to_alarm": [None if night is None else night - CHANGES + 1 for night in firsts]
                if scenario in BEFORE_AND_AFTER
                else None,
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repetition of `unchanged` and of `grown`")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--into", type=Path, help="where answers and finished repetitions are kept; default: a new folder")
    parser.add_argument("--seed", type=int, default=GRADED, help="of the first repetition")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    into = arguments.into or Path(mkdtemp())
    repetitions = {"unchanged": 1, "grown": 1} if arguments.quick else SCENARIOS
    names = {"planted"}.union(*(BEFORE_AND_AFTER.get(scenario, ()) for scenario in repetitions))
    stock = stock_of(into, START + ARRIVE * NIGHTS, names)
    rows = []
    for scenario, times in repetitions.items():
        for i in range(times):
            done = into / f"{scenario}-{arguments.seed + i}.json"
            if not done.exists():
                done.write_text(json.dumps(judged(stock, Setting(scenario, arguments.seed + i))))
            rows.append(json.loads(done.read_text()))
    truth = {
        name: {
            "accuracy": round(float(((one.p > 0.5) == stock.labels).mean()), 3),
            "effect_of_glasses": round(float(_true_effect(stock, one, "glasses")), 3),
        }
        for name, one in stock.answers.items()
    }
    found: dict[str, Any] = {
        "seconds": round(time.monotonic() - started, 1),
        "nights": NIGHTS,
        "truth": truth,
        "summary": summary_of(rows),
        "rows": rows,
    }
    if arguments.json:
        print(json.dumps(found))  # noqa: T201
        return
    print(truth)  # noqa: T201
    for row in found["summary"]:
        print(row)  # noqa: T201


def _true_effect(stock: Stock, one: Answered, name: str) -> float:
    sign = np.where(stock.attributes[:, ATTRIBUTES.index(name)], -1, 1)
    return float((sign * (one.toggled[:, EDITED.index(name)] - one.p)).mean())


if __name__ == "__main__":
    main()
