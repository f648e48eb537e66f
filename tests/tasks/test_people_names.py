"""The setting `labels`: names for people, wrong ones refused before work."""

from __future__ import annotations

from pathlib import Path

import pytest

from cfx.errors import ConfigError
from tasks.data.people_names import check_people_names
from tasks.stages.run_record import finish_run, start_run
from tests.runs import run_of
from warehouse.lens.connect import query
from warehouse.report.names import Names

KNOWN = ("not_smiling", "smiling", "warm_background", "hat")


def test_names_of_classes_attributes_and_properties_may_be_given() -> None:
    check_people_names({"not_smiling": "neutral", "hat": "headgear", "subject_y": "height"}, KNOWN)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (
            {"warm_backgroud": "warm"},
            "labels: 'warm_backgroud' is no class .*; near it: warm_background; there are not_smiling, smil",
        ),
        ({"zebra": "stripes"}, "labels: 'zebra' is no class and no attribute of this audit; there are not_smiling"),
        ({"hat": " "}, "'hat' is given an empty name; leave the line out to show it as 'hat'"),
        ({"hat": "Warm background"}, "people would read 'warm_background' and 'hat' alike, as 'Warm background'"),
    ],
)
def test_what_people_could_not_tell_apart_or_nothing_has_is_refused(labels: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_people_names(labels, KNOWN)


def test_sentences_are_renamed_and_code_and_paths_are_not() -> None:
    names = Names({"smiling": "a smile", "hat": "headgear"})
    said = "hat and warm_background move “smiling”; set `target_attribute: hat`, see data/my_hat.png or cfx-hat"
    assert names.text(said) == (
        "headgear and warm background move “a smile”; set `target_attribute: hat`, see data/my_hat.png or cfx-hat"
    )
    row = {"kind": "property", "name": "subject_y", "class": "smiling", "tied": ["light_x"], "why": "acts through light_x"}
    assert names.row(row) == row | {
        "name": "vertical position of the subject",
        "property": "subject_y",
        "class": "a smile",
        "tied": ["light from the side"],
        "why": "acts through light from the side",
    }


def test_other_labels_are_the_same_run_and_its_record_has_the_last_ones(tmp_path: Path) -> None:
    first, second = (run_of(tmp_path, "run", labels={"hat": people}) for people in ("headgear", "cap"))
    assert first.config.result_hash() == second.config.result_hash()
    start_run(first)
    ended = finish_run(first)
    assert finish_run(first) == ended, "nothing new, nothing written"
    finish_run(second)
    (run,) = query(tmp_path, "from runs").to_pylist()
    assert Names.of(run)("hat") == "cap" and run["status"] == "finished"
    assert len(query(tmp_path, "from facts.runs").to_pylist()) == 3
