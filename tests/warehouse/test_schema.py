"""Every fact says what it is, and takes exactly its columns."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from warehouse.facts.fact import VERSION
from warehouse.facts.schema import FACTS, fact_named


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS.keys())
def test_a_fact_carries_its_name_version_and_the_meaning_of_every_column(fact):
    assert fact.schema.metadata == {b"fact": fact.name.encode(), b"version": VERSION.encode()}
    assert fact.description.endswith(".")
    assert all(field.metadata[b"description"] for field in fact.schema)
    assert all(family.description for family in fact.families)


def test_an_unknown_fact_is_told_with_those_that_exist():
    with pytest.raises(ValueError, match="no fact 'explanation'; the facts are runs, images, annotations, rejected, predictions"):
        fact_named("explanation")


def test_wide_columns_are_told_by_their_prefix_and_come_after_the_fixed_ones():
    attributes = FACTS["attributes"]
    family = attributes.family("d_glasses")
    assert family is not None and family.type == pa.float32()
    assert attributes.family("d_") is None
    assert attributes.family("arm") is None
    schema = attributes.schema_with(["p_hat", "q_hat", "d_hat"])
    assert schema.names == ["image_id", "method", "arm", "seed", "p_hat", "q_hat", "d_hat"]
    annotation = FACTS["images"].family("a_hat")
    assert annotation is not None and annotation.nullable


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS.keys())
def test_a_column_that_came_later_is_named_as_gained(fact):
    """Or a warehouse that was written before it can no longer be read. first_columns.json grows by whole facts alone."""
    first = json.loads((Path(__file__).parent / "first_columns.json").read_text())
    assert fact.name in first, "a new fact: add its columns to first_columns.json"
    assert {field.name for field in fact.schema} - set(first[fact.name]) <= set(fact.gained), "name it in the fact's `gained`"
    assert set(first[fact.name]) <= {field.name for field in fact.schema}
