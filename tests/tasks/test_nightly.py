"""A nightly sample: part of it stays, the rest is drawn anew, and a night that was begun has the same images again."""

from __future__ import annotations

import pickle
import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from cfx.user_code import importable_from
from tasks.check import check
from tasks.config import AuditConfig
from tasks.data.annotations import listing
from tasks.data.drawing import drawn
from tasks.data.ingest import DataConfig, fingerprint
from tasks.data.ingest import check as check_data
from tasks.data.nightly import keep, of_night, settled
from tasks.run import Run
from tasks.stages.ingest import ingest
from tests.cases.tiny import lay_out, settings
from warehouse.facts.shards import read_shard
from warehouse.lens.connect import query


def stock(folder: Path, n: int) -> None:
    """A table of n images, a third of them dogs, whose files are there."""
    (folder / "images").mkdir(exist_ok=True)
    rows = [f"{i:04d}.png,{'dog' if i % 3 == 0 else 'cat'}" for i in range(n)]
    (folder / "table.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    for i in range(n):
        (folder / "images" / f"{i:04d}.png").write_bytes(b"%d" % i)


def data_of(folder: Path, **limit: object) -> DataConfig:
    settings = {"images": folder / "images", "table": folder / "table.csv", "label_column": "label"}
    return DataConfig.model_validate(settings | {"limit": {"nightly": 60} | limit})


def files_of(config: DataConfig) -> list[str]:
    found: list[str] = listing(config)["file"].to_pylist()
    return found


def test_half_of_a_night_is_that_of_every_night_and_every_label_has_its_share(tmp_path: Path) -> None:
    stock(tmp_path, 600)
    one, two = (files_of(data_of(tmp_path, date=f"2025-01-0{day}")) for day in (1, 2))
    fixed = data_of(tmp_path).model_copy(update={"limit": 30})
    assert len(one) == len(two) == 60 and one == sorted(one)
    assert {*files_of(fixed)} <= {*one} & {*two}  # drawn as a limit of 30 draws
    assert 30 <= len({*one} & {*two}) <= 36  # 30 of 570 drawn twice: 1.6 in common by chance
    assert [sum(int(file[:4]) % 3 == 0 for file in files) for files in (one, two)] == [20, 20]
    assert files_of(data_of(tmp_path, date="2025-01-01")) == one


@pytest.mark.parametrize(("kept", "common"), [(0.0, 0.1), (1.0, 1.0)])
def test_all_or_nothing_may_stay(tmp_path: Path, kept: float, common: float) -> None:
    stock(tmp_path, 600)
    one, two = ({*files_of(data_of(tmp_path, kept=kept, date=f"2025-01-0{day}"))} for day in (1, 2))
    assert abs(len(one & two) / 60 - common) < 0.1


def test_a_night_that_was_begun_has_the_same_images_though_the_stock_has_grown(tmp_path: Path) -> None:
    stock(tmp_path, 200)
    root, config = tmp_path / "warehouse", data_of(tmp_path, date="2025-01-01")
    begun = settled(root, config)
    keep(root, begun)
    stock(tmp_path, 300)
    again = settled(root, config)
    assert files_of(again) == files_of(begun) != files_of(config)
    assert fingerprint(again) == fingerprint(begun) != fingerprint(config)
    assert settled(root, again) is again
    assert query(root, "select distinct night, count(*) n from draws group by all").to_pylist() == [
        {"night": date(2025, 1, 1), "n": 60}
    ]
    assert files_of(settled(root, data_of(tmp_path, date="2025-01-02"))) == files_of(data_of(tmp_path, date="2025-01-02"))


def test_a_row_that_says_something_else_is_other_data(tmp_path: Path) -> None:
    stock(tmp_path, 100)
    config = data_of(tmp_path, date="2025-01-01")
    before, (first, *_) = fingerprint(config), files_of(config)
    table = (tmp_path / "table.csv").read_text()
    (tmp_path / "table.csv").write_text(table.replace(f"{first},cat", f"{first},dog").replace(f"{first},dog", f"{first},cat", 1))
    assert fingerprint(settled(tmp_path / "warehouse", config)) != before


def test_the_night_is_today_unless_it_is_named_or_scheduled(tmp_path: Path) -> None:
    today = datetime.now(UTC).date()
    scheduled = date(2025, 3, 1)
    unnamed, named = data_of(tmp_path), data_of(tmp_path, date="2025-01-01")
    assert getattr(unnamed.limit, "date", None) in (today, datetime.now(UTC).date())
    assert getattr(of_night(unnamed, scheduled).limit, "date", None) == scheduled
    assert of_night(named, scheduled) is named
    plain = named.model_copy(update={"limit": 8})
    assert of_night(plain, scheduled) is plain and settled(tmp_path, plain) is plain
    assert unnamed.model_dump_json() != of_night(unnamed, scheduled).model_dump_json()  # so it is another run


def test_a_stock_that_is_smaller_than_a_night_is_taken_whole_and_said_in_words(tmp_path: Path) -> None:
    stock(tmp_path, 40)
    assert len(files_of(data_of(tmp_path))) == 40
    stock(tmp_path, 600)
    said = check_data(data_of(tmp_path, date="2025-01-01")).sample
    assert said is not None
    assert said.startswith("60 of 600 images for the night of 2025-01-01, 50% of them the same every night, drawn by chance")


@pytest.mark.parametrize("limit", [{"nightly": 1}, {"kept": 1.5}, {"kept": -0.1}, {"date": "tonight"}, {"first": 3}])
def test_a_night_that_cannot_be_is_refused(tmp_path: Path, limit: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        data_of(tmp_path, **limit)


def test_other_seeds_are_other_draws() -> None:
    names = [f"{i}.png" for i in range(400)]
    one, two, again = (drawn(names, [None] * 400, 100, seed) for seed in (0, "2025-01-01", 0))
    assert one == again and 10 < len({*one} & {*two}) < 45  # 25 by chance


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("nights")
    lay_out(home)
    importable_from(home)
    return home


def test_an_audit_of_a_night_is_a_run_of_its_own_and_the_same_after_a_kill(home: Path) -> None:
    def night(day: int) -> Run:
        plain = settings(home)
        limit = {"nightly": 4, "date": f"2025-01-0{day}"}
        return check(AuditConfig.model_validate(plain | {"prior": None, "data": plain["data"] | {"limit": limit}}))

    begun = night(1)
    images = read_shard(ingest(begun)[0], ["path"])["path"].to_pylist()
    assert len(images) == 4 and night(2).id != begun.id
    table = home / "data/attributes.csv"
    _, *rows = table.read_text().splitlines()
    for i, row in enumerate(rows):
        name, rest = row.split(",", 1)
        shutil.copy(home / "data/images" / name, home / f"data/images/later-{i}.png")
        table.write_text(table.read_text().rstrip("\n") + f"\nlater-{i}.png,{rest}\n")
    again = night(1)
    assert again.id == begun.id and files_of(again.config.data) == images
    assert pickle.loads(pickle.dumps(again)).config.data.limit.files == tuple(images)  # to a worker and back
