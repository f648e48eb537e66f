"""Precision at k: the share of a card's images that carry what was planted, on the better of its two sides."""

from pathlib import Path

import pytest
from portrait_run import write_portrait_run

from flows.slices import precision_at_k
from warehouse.lens.connect import query


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(folder, "run", n=24, size=16, properties={"warmth": 0.3})
    return folder


def test_it_is_the_share_of_the_twelve_that_have_most_or_least_of_it(root: Path) -> None:
    sql = "select path from images join properties using (run_id, image_id) order by m_warmth desc, image_id"
    by_warmth = query(root, sql)["path"].to_pylist()
    for carriers, share in (
        (by_warmth[:12], 1.0),
        (by_warmth[12:], 1.0),
        (by_warmth[3:15], 0.75),
        (by_warmth[::2], 0.5),
        ([], 0),
    ):
        assert precision_at_k(root, "run", ["warmth"], set(carriers).__contains__) == share


def test_what_has_no_card_has_no_precision(root: Path) -> None:
    assert precision_at_k(root, "run", ["sharpness"], lambda file: True) is None
