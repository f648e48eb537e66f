"""Words are calibrated, held against annotations of other images, and it is said where they mean nothing or may mean anything."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cfx.attributes.calibration import Line, agreement, platt, split_in_two
from cfx.attributes.words import WordsOracleConfig, scores_of
from cfx.images import decode_png
from cfx.portraits import write_portraits
from tasks.advice.words_check import Worded, words_warnings
from tasks.check import check
from tasks.config import AuditConfig
from tasks.networks import fingerprint, give_back
from tasks.run import Run
from tasks.stages.run_record import start_run
from tasks.understood import lines_of
from warehouse.lens.connect import query

WORDS = {
    "smile": ["a person smiling", "a person not smiling"],
    "hat": ["a person wearing a hat", "a person without a hat"],
    "photo": ["a photo of a face", "a face"],  # of nothing that differs between the images
    "beard": ["a person on a warm background", "a person on a cold background"],  # of something else
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("words")
    write_portraits(root, 120, 77)
    return root


def settings(folder: Path, root: Path, **more: Any) -> AuditConfig:
    return AuditConfig.model_validate(
        {
            "name": "by-words",
            "warehouse": root,
            "data": {"images": folder / "images", "table": folder / "attributes.csv", "label_column": "label"},
            "classifier": {"weights": "portraits:planted"},
            "oracle": {"words": WORDS, "model": "portraits:words"},
            "target_attribute": "smile",
            "saliency": None,
            "device": "cpu",
            **more,
        }
    )


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return check(settings(folder, tmp_path_factory.mktemp("warehouse")))


def by_name(run: Run) -> dict[str, Worded]:
    return {one.attribute: one for one in run.words}


def test_words_that_mean_what_the_table_says_agree_with_it(run: Run) -> None:
    hat = by_name(run)["hat"]
    assert hat.calibrated_by == "annotations" and hat.balanced_accuracy is not None and hat.low is not None
    assert hat.balanced_accuracy > 0.9 and hat.low > 0.6
    assert hat.n_with + hat.n_without == pytest.approx(60, abs=1), "half of the images; the other half calibrates"


def test_words_of_something_else_are_said_to_agree_at_chance(run: Run) -> None:
    beard = by_name(run)["beard"]
    assert beard.low is not None and beard.high is not None and beard.low < 0.5 < beard.high
    (warning,) = [warning for warning in run.warnings if "at chance" in warning]
    assert "the words of 'beard' agree with its annotations at chance: balanced accuracy 0." in warning


def test_words_without_annotations_are_said_to_be_held_against_nothing(run: Run) -> None:
    photo = by_name(run)["photo"]
    assert photo.calibrated_by == "split" and photo.balanced_accuracy is None
    (warning,) = [warning for warning in run.warnings if "nothing to hold these words against" in warning]
    assert "name: photo (" in warning and "hat (" not in warning
    assert run.understood is not None
    assert any(line.startswith("hat by words: ") and "balanced accuracy" in line for line in lines_of(run.understood))


def test_the_calibration_travels_with_the_run_and_is_part_of_its_identity(run: Run, folder: Path) -> None:
    assert isinstance(run.config.oracle, WordsOracleConfig) and run.config.oracle.calibration is not None
    assert set(run.config.oracle.calibration) == set(WORDS)
    assert check(settings(folder, run.root)).id == run.id
    shifted = {name: {"slope": 1.0, "offset": 9.0} for name in WORDS}
    given = check(settings(folder, run.root, oracle={"words": WORDS, "model": "portraits:words", "calibration": shifted}))
    assert given.id != run.id and {one.calibrated_by for one in given.words} == {"settings"}
    give_back()  # as in another process: the oracle is loaded anew
    elsewhere = replace(run)
    assert fingerprint(elsewhere.oracle().network) == run.fingerprints["oracle"]


def test_the_agreement_is_a_fact(run: Run) -> None:
    start_run(run)
    rows = {row["attribute"]: row for row in query(run.root, "from word_agreement").to_pylist()}
    hat = by_name(run)["hat"]
    assert rows["hat"] == {"run_id": run.id, **hat._asdict()}
    assert rows["photo"]["balanced_accuracy"] is None


def test_probabilities_are_calibrated_by_the_fitted_half(run: Run, folder: Path) -> None:
    """The line that the run has is the one that Platt's fit gives on the first half of each side, in the order of the draw."""
    oracle = run.oracle()
    lines = run.config.oracle.calibration if isinstance(run.config.oracle, WordsOracleConfig) else None
    with (folder / "attributes.csv").open() as table:
        rows = list(csv.DictReader(table))
    x = torch.cat([decode_png([(folder / "images" / row["file"]).read_bytes()]) for row in rows])
    column = oracle.attributes.index("hat")
    said = oracle(x)[:, column].numpy() > 0.5
    truth = np.array([row["hat"] == "1" for row in rows])
    assert lines is not None
    expected = lines["hat"].slope * scores_of(oracle, x)[:, column].numpy() + lines["hat"].offset > 0
    assert np.array_equal(said, expected)
    assert (said == truth).mean() > 0.9


def test_a_slope_never_turns_words_into_their_contrary() -> None:
    truth = np.arange(40) % 2 == 0
    assert platt(-truth.astype(float), truth) is None
    assert platt(truth.astype(float), np.arange(40) < 4) is None, "too few that have it"
    # two scores, 0 and 1, without an overlap: Platt's targets are 1/22 and 21/22, whose log-odds are -+ ln 21
    line = platt(truth.astype(float), truth)
    assert line is not None
    assert line.offset == pytest.approx(-np.log(21), rel=1e-3) and line.slope == pytest.approx(2 * np.log(21), rel=1e-3)


def test_the_models_own_scale_is_kept_where_annotations_bear_it_out() -> None:
    truth = np.arange(40) % 2 == 0
    certain = platt(np.where(truth, 9.0, -9.0), truth)  # Platt's slope would be ln 21 / 9
    assert certain is not None and certain.slope == 1.0 and abs(certain.offset) < 0.01
    scores = np.where(np.arange(40) % 8 < 2, -9.0, 9.0) * np.where(truth, 1, -1)  # a quarter is wrong, and certain of it
    doubted = platt(scores, truth)
    assert doubted is not None and doubted.slope == pytest.approx(np.log(3) / 9, rel=0.15)


def test_a_rare_attribute_is_cut_off_where_it_parts_and_not_at_the_median() -> None:
    rng = np.random.default_rng(0)
    split = split_in_two(np.concatenate([rng.normal(0, 1, 180), rng.normal(12, 1, 20)]))
    assert split is not None and split.share == 0.1 and split.between > 0.9
    one_group = split_in_two(rng.normal(0, 1, 5_000))
    assert one_group is not None and one_group.between == pytest.approx(2 / np.pi, abs=0.03)
    assert split_in_two(np.ones(9)) is None


def test_no_agreement_is_claimed_without_images_of_both_kinds() -> None:
    assert agreement(np.array([True, False]), np.array([True, True])) == (None, None, None, 2, 0)


def test_scores_that_do_not_part_are_said_to_be_arbitrary() -> None:
    one = Worded("ruler", "split", 1.0, 0.0, 0.5, 0.64, None, None, None, 0, 0)
    assert "the scores of ruler do not part in two" in words_warnings([one])[-1]
    assert not any("part in two" in warning for warning in words_warnings([one._replace(parted=0.95)]))
    assert Line(slope=1.0, offset=0.0).slope == 1.0
