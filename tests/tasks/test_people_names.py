"""The setting `labels`: names for people, wrong ones refused before work."""

from __future__ import annotations

import pytest

from cfx.errors import ConfigError
from tasks.data.people_names import check_people_names
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
