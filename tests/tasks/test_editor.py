"""An editor proposes, the classifier decides, the ladder takes what fails: on portraits of 16 pixels and a tiny prior."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cfx.checkpoint import save_network
from cfx.diffusion.ddpm import DDPM, Schedule
from cfx.editor import FEWEST, Editor, EditorTraining, load_editor, save_editor, train_editor
from cfx.errors import ConfigError, UserError
from cfx.images import decode_png
from cfx.portraits import write_portraits
from cfx.user_code import importable_from
from tasks.check import check
from tasks.config import AuditConfig
from tasks.networks import give_back
from tasks.stages.editor import _row, editor_of, leading, learn_editor, proposals, read_drawn
from tasks.stages.explain import drawn_of, explain, explainer_of, targets_of
from tasks.stages.ingest import ingest
from tasks.stages.learn import Learned
from tasks.stages.predict import predict
from tests.cases.tiny import Pooled, lay_out, settings
from tests.toys import Says
from warehouse.facts.shards import Shard, read_shard

IMAGES, SHARD = 84, 28
TRAINING = {"examples": 56, "steps": 40, "learning_rate": 5e-3}


NETWORK = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(3, 2)

    def forward(self, x):
        return self.last(x[:, :, :8].mean((2, 3)))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The half of the images with a brighter upper half are "smiling"; the ladder brightens or darkens that half alone."""
    home = tmp_path_factory.mktemp("home")
    lay_out(home)
    write_portraits(home / "data", IMAGES, seed=1, size=16)
    (home / "upper_half.py").write_text(NETWORK)
    importable_from(home)
    x = decode_png([path.read_bytes() for path in sorted((home / "data/images").iterdir())])
    network = Pooled(2)
    with torch.no_grad():
        network.last.weight.copy_(torch.tensor([[0.0] * 3, [10.0] * 3]))
        network.last.bias.copy_(torch.tensor([0.0, -10.0 * float(x[:, :, :8].mean((2, 3)).sum(1).median())]))
    save_network(home / "half.safetensors", network, {})
    return home


def config_of(home: Path, **changes: Any) -> AuditConfig:
    rung = {"method": "maskdime", "steps": 50, "tau": 2, "strength": 1.0, "adaptive": True, "share": 0.5, "dilation": 1}
    classifier = settings(home)["classifier"] | {"module": "upper_half:Net", "weights": home / "half.safetensors"}
    audit = settings(home) | {"classifier": classifier, "ladder": [rung | {"scale": scale} for scale in (300.0, 2000.0)]}
    return AuditConfig.model_validate(audit | {"shard_size": SHARD, "editor": TRAINING} | changes)


class Explained:
    """An audit up to its explanations: the first shards by the ladder, the last with an editor."""

    def __init__(self, home: Path) -> None:
        self.run = check(config_of(home))
        self.images = ingest(self.run)
        self.predicted = [predict(self.run, shard) for shard in self.images]
        self.n = leading(self.run.config.editor, self.images)
        first = [explain(self.run, *each, Learned()) for each in zip(self.images[: self.n], self.predicted, strict=False)]
        self.learned = learn_editor(self.run, self.images[: self.n], first, Learned())
        self.explained = [*first, explain(self.run, self.images[-1], self.predicted[-1], self.learned)]


@pytest.fixture(scope="module")
def done(home: Path) -> Explained:
    return Explained(home)


def rows_of(shard: Shard) -> list[dict[str, Any]]:
    return read_shard(shard).to_pylist()


def test_after_its_examples_the_editor_draws_and_outside_its_mask_the_image_is_kept(done: Explained) -> None:
    assert done.n == 2 and done.learned.editor is not None
    assert {row["way"] for shard in done.explained[:2] for row in rows_of(shard)} == {"ladder"}
    guided = [row for row in rows_of(done.explained[2]) if row["arm"] == "guided"]
    ways = [row["way"] for row in guided]
    assert ways.count("editor") >= 0.9 * len(guided) and all(row["flipped"] and row["flipped_8bit"] for row in guided)
    assert {(row["attempt"], row["nfe_forward"]) for row in guided if row["way"] == "editor"} == {(-1, 2)}
    before = {row["image_id"]: decode_png([row["png"]])[0] for row in rows_of(done.images[2])}
    for row in rows_of(done.explained[2]):
        changed = (decode_png([row["png"]])[0] != before[row["image_id"]]).any(0)
        mask = decode_png([row["mask_png"]])[0][0] > 0
        assert row["way"] != "editor" or not (changed & ~mask).any()
        assert row["arm"] == "null" or changed.any()


def test_what_the_editor_fails_on_is_what_the_ladder_alone_draws(done: Explained) -> None:
    run, found = done.run, editor_of(done.run, done.learned.editor)  # type: ignore[arg-type]
    targets, source = targets_of(run, done.images[2], done.predicted[2], done.learned)
    strict = Editor(found.drawing, found.prior, found.pairs, found.bounds._replace(sure=0.95))
    with_editor = replace(explainer_of(run, done.learned), editor=strict)
    mixed, alone = (drawn_of(one, targets, source, 0) for one in (with_editor, replace(with_editor, editor=None)))
    failed = [i for i, way in enumerate(mixed.way) if way == "ladder after editor"]
    assert 0 < len(failed) < len(mixed.way) and set(mixed.way) == {"editor", "ladder after editor"}
    for arm, same in ((mixed.guided, alone.guided), (mixed.null, alone.null)):
        assert torch.equal(arm.x_cf[failed], same.x_cf[failed]) and torch.equal(arm.mask[failed], same.mask[failed])
    assert [mixed.attempt[i] for i in failed] == [alone.attempt[i] for i in failed]
    assert all(mixed.guided.costs[i].nfe_forward == alone.guided.costs[i].nfe_forward + 2 for i in failed)
    assert all(mixed.guided.costs[i].seconds > 0 for i in range(len(mixed.way)))
    one_by_one = [drawn_of(with_editor, targets.of([i]), source[[i]], 0) for i in range(4)]  # beside no others
    assert torch.equal(torch.cat([one.guided.x_cf for one in one_by_one]), mixed.guided.x_cf[:4])
    assert [one.way[0] for one in one_by_one] == mixed.way[:4]


def test_a_pair_of_classes_with_too_few_examples_is_the_ladders(done: Explained) -> None:
    drawn = read_drawn(done.run, done.images[:2], done.explained[:2])
    low, high = ((drawn.examples.source == source).nonzero()[:, 0] for source in (0, 1))
    few = torch.cat([low[: FEWEST - 1], high[:FEWEST]])
    training = EditorTraining(examples=32, steps=2)
    found = train_editor(done.run.denoiser(), done.run.classifier(), drawn.examples.of(few), training)
    assert found.pairs == ((1, 0),)
    targets, source = targets_of(done.run, done.images[2], done.predicted[2], done.learned)
    proposed = proposals(found, done.run.classifier(), targets.x, source, targets.target, 8)
    assert proposed.known == (source == 1).tolist()
    assert not proposed.accepted[source == 0].any() and torch.equal(proposed.guided[source == 0], targets.x[source == 0])
    with pytest.raises(UserError, match="no pair of classes has 16 examples"):
        train_editor(done.run.denoiser(), done.run.classifier(), drawn.examples.of(few[:4]), training)


def test_training_is_repeatable_and_its_file_is_the_same_editor(done: Explained, tmp_path: Path) -> None:
    drawn, run = read_drawn(done.run, done.images[:2], done.explained[:2]), done.run
    examples, training = drawn.examples.of(~drawn.held_out), EditorTraining(steps=3)
    one, two = (train_editor(run.denoiser(), run.classifier(), examples, training) for _ in range(2))
    read = load_editor(save_editor(one, training, tmp_path / "editor.safetensors"), run.denoiser(), (16, 16))
    x = examples.x[:5]
    first, *others = (each.propose(x, examples.source[:5], examples.target[:5]) for each in (one, two, read))
    assert all(torch.equal(first.x_cf, other.x_cf) for other in others)
    assert read.bounds == pytest.approx(one.bounds) and read.pairs == one.pairs
    other = train_editor(run.denoiser(), run.classifier(), examples, training.model_copy(update={"seed": 1}))
    assert not torch.equal(other.drawing.maps, one.drawing.maps)
    plain = DDPM(Says(0.0), Schedule(), channels=3)
    with pytest.raises(UserError, match="starts from a UNet2DModel of diffusers, and this prior's network is Says"):
        load_editor(tmp_path / "editor.safetensors", plain, (16, 16))


def test_a_quarter_of_each_pair_of_classes_is_held_out_whoever_else_is_there(done: Explained) -> None:
    whole = read_drawn(done.run, done.images[:2], done.explained[:2])
    for source in (0, 1):
        mine = whole.examples.source == source
        assert int(whole.held_out[mine].sum()) == -(-int(mine.sum()) // 4)
    assert torch.equal(read_drawn(done.run, done.images[1::-1], done.explained[1::-1]).held_out, whole.held_out)


def test_two_one_sided_tests_are_the_worked_example() -> None:
    # differences .02, .04, .06, .08: mean .05, s = .02582, t(.95, 3) = 2.35336, half = 2.35336 * .02582 / 2 = .03038
    ladder, editor = torch.tensor([0.1, 0.2, 0.3, 0.4]).double(), torch.tensor([0.12, 0.24, 0.36, 0.48]).double()
    row = _row("a", "b", "shift", "hat", ladder, editor, margin=0.1)
    assert (row["low"], row["high"]) == pytest.approx((0.01962, 0.08038), abs=1e-5) and row["equivalent"] is True
    assert (row["by_ladder"], row["by_editor"], row["n"]) == pytest.approx((0.25, 0.3, 4))
    assert _row("a", "b", "shift", "hat", ladder, editor, margin=0.08)["equivalent"] is False
    assert _row("a", "b", "shift", "hat", ladder[:1], editor[:1], margin=0.1)["equivalent"] is False  # one image shows nothing


def test_a_killed_audit_goes_on_with_the_same_editor_and_the_same_rows(done: Explained) -> None:
    run, path = done.run, done.learned.editor
    assert path is not None
    kept, written, shard = path.read_bytes(), path.stat().st_mtime_ns, done.explained[2]
    rows = rows_of(shard)
    shard.path.unlink()
    give_back()
    assert learn_editor(run, done.images[:2], done.explained[:2], Learned()) == done.learned  # as a new process finds it
    again = rows_of(explain(run, done.images[2], done.predicted[2], done.learned))
    assert [row | {"seconds": 0} for row in again] == [
        row | {"seconds": 0} for row in rows
    ] and path.stat().st_mtime_ns == written
    path.unlink()  # and where it was not kept
    learn_editor(run, done.images[:2], done.explained[:2], Learned())
    assert path.read_bytes() == kept


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prior": None}, "editor: it learns to draw from the prior, and there is none; set `prior`, or leave `editor` out"),
        ({"ladder": [{"method": "svce"}]}, "editor: it learns from methods that draw with the prior, and 'svce' does not"),
        ({"seeds": [0, 1]}, "editor: it draws the same for every seed, and there are 2; give one in `seeds`"),
        (
            {"data": 32},
            r"editor: it draws images of the prior's own size, 16 x 16 px, and these are 32 x 32; set `data.size: 16`",
        ),
    ],
)
def test_an_editor_that_cannot_work_is_refused_with_the_way_out(home: Path, changes: dict[str, Any], words: str) -> None:
    if "data" in changes:
        changes = {"data": settings(home)["data"] | {"size": changes["data"]}}
    with pytest.raises(ConfigError, match=words):
        check(config_of(home, **changes))
