"""What can be asked is told in words: every view, column and macro, and docs/reference/warehouse.md as the code says it."""

from pathlib import Path

import pytest
from facts import write_run

from warehouse.lens.catalog import VIEWS, header, macros, view_sql
from warehouse.lens.connect import open_warehouse, views
from warehouse.lens.reference import meaning_of, reference, wide
from warehouse.lens.scans import columns_of

DOCS = Path(__file__).parent.parent.parent / "docs" / "reference" / "warehouse.md"


def test_the_page_is_what_the_code_says():
    assert DOCS.read_text() == reference(), "stale: .venv/bin/python -m warehouse.lens.reference > docs/reference/warehouse.md"


def test_every_column_of_every_fact_and_view_has_a_meaning(tmp_path):
    write_run(tmp_path, "r1", {"smile": 0.3, "hat": 0.1}, n=4)
    for view in views(tmp_path):
        assert all(meaning_of(view.name, column) for column, _ in view.columns)
    assert (
        meaning_of("verdicts", "shift")
        == "mean change of the attribute's oracle probability from source to target, guided minus null"
    )
    assert meaning_of("verdicts", "effect") == "old name of shift"
    assert meaning_of("attribute_scores", "after_hat") == "oracle's probability of it on the counterfactual"
    assert meaning_of("attributes", "c_hat") == "change of the oracle's bit: -1, 0 or 1; above .5 is 1"
    assert meaning_of("outcomes", "l1") == "mean |difference|, images on [0, 1]"  # as the fact says
    assert meaning_of("fr", "value") == "share, 0 to 1"  # as the view says


def test_a_column_of_an_attribute_is_told_from_one_that_a_fact_names():
    assert (wide("d_hat"), wide("p_source"), wide("l1")) == ("d_<attribute>", "p_source", "l1")
    assert (wide("p_value"), wide("n_with")) == ("p_value", "n_with")
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in rows} == {4}  # three cells each


def test_a_column_that_nobody_explains_is_named():
    with pytest.raises(LookupError, match=r"views/fr.sql does not say what 'colour' is"):
        meaning_of("fr", "colour")


def test_a_header_tells_no_column_that_its_view_does_not_have(tmp_path):
    write_run(tmp_path, "r1", {"smile": 0.3}, n=4)
    with open_warehouse(tmp_path) as lens:
        made = {name: {column for column, _ in columns_of(lens, f"from {name}")} for name in VIEWS}
    for name in VIEWS:
        told = {column.replace("<attribute>", "smile") for column in header(name).columns}
        assert told <= made[name], name


def test_macros_are_told_too():
    told = macros("resamples")
    assert told["poisson(u)"] == "quantile u of Poisson(1): how many of its cumulative probabilities lie at or below u"
    known = {
        "poisson(u)",
        "uniforms(hashes)",
        "bootstrap_weights(lots, resample)",
        "widened(n)",
        "fewest_images()",
        "within(x, most)",
    }
    assert set(told) == known
    for name in VIEWS:
        assert len(macros(name)) == view_sql(name).count("create macro")
