"""cfx's own training: it learns, it repeats itself, it says how good the result is; and the bundled networks keep their word."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cfx.attributes.oracle import OracleConfig, load_oracle
from cfx.checkpoint import read_facts
from cfx.classifiers import ClassifierConfig, TorchClassifier, load_classifier
from cfx.images import from_uint8
from cfx.portraits import ATTRIBUTES, draw, true_effects
from cfx.training.augment import Augmentation, augment
from cfx.training.classifier import ClassifierTraining, train_classifier
from cfx.training.portraits import RECIPES, rendered, train_on_portraits

TINY = ClassifierTraining(widths=(8, 16), grid=1, steps=60, batch=16, learning_rate=0.01)


def squares(n: int = 200) -> tuple[Tensor, Tensor]:
    """Grainy 16 px images with a bright square above (class 1) or below (class 0), and whether they are reddish: (n, 2)."""
    chance = torch.Generator().manual_seed(1)
    images = torch.randint(60, 120, (n, 3, 16, 16), generator=chance, dtype=torch.uint8)
    facts = torch.randint(0, 2, (n, 2), generator=chance)
    for image, (above, red) in zip(images, facts.tolist(), strict=True):
        image[:, 2:7, 5:10] += 100 * above
        image[:, 9:14, 5:10] += 100 * (1 - above)
        image[0] += 30 * red
    return images, facts


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_separable_toy_is_learned_and_its_accuracy_recorded(tmp_path):
    images, facts = squares()
    config = TINY.model_copy(update={"grid": 2})
    path = train_classifier(images, facts[:, 0], config, ("below", "above"), tmp_path / "toy.safetensors")
    classifier = load_classifier(ClassifierConfig(weights=path))
    assert classifier.classes == ("below", "above")
    assert (classifier(from_uint8(images)).argmax(1) == facts[:, 0]).all()
    recorded = read_facts(path)
    assert recorded["accuracy"] == 1.0 and recorded["input_size"] == 16
    assert recorded["training"] == config.model_dump(mode="json")


def test_an_oracle_learns_several_attributes_at_once(tmp_path):
    images, facts = squares()
    config = TINY.model_copy(update={"grid": 2, "steps": 150})
    path = train_classifier(images, facts, config, ("above", "red"), tmp_path / "toy.safetensors")
    oracle = load_oracle(OracleConfig(weights=path))
    assert oracle.attributes == ("above", "red")
    assert ((oracle(from_uint8(images)) > 0.5) == facts.bool()).all()
    assert read_facts(path)["accuracy"] == {"above": 1.0, "red": 1.0}


def test_the_same_seed_gives_the_same_file_and_leaves_the_global_generator_alone(tmp_path):
    images, facts = squares(50)
    config = TINY.model_copy(update={"steps": 5})

    def trained(name: str, seed: int) -> str:
        names, settings = ("below", "above"), config.model_copy(update={"seed": seed})
        return digest(train_classifier(images, facts[:, 0], settings, names, tmp_path / name))

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = trained("a.safetensors", 7)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert trained("b.safetensors", 7) == first
    assert trained("c.safetensors", 8) != first


def test_progress_is_reported_after_every_step(tmp_path):
    images, facts = squares(30)
    steps: list[int] = []
    config = TINY.model_copy(update={"steps": 4})
    path = train_classifier(
        images, facts[:, 0], config, ("a", "b"), tmp_path / "x.safetensors", lambda step, loss: steps.append(step)
    )
    assert steps == [1, 2, 3, 4] and path.is_file()


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (torch.zeros(9, dtype=torch.long), ("a", "b"), "20 images with 9 labels"),
        (torch.full((20,), 2), ("a", "b"), "labels run from 2 to 2, but the classes are a, b"),
        (torch.zeros(20, 3), ("red", "above"), "labels have 3 columns for 2 names: red, above"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, labels, names, message):
    with pytest.raises(ValueError, match=message):
        train_classifier(torch.zeros(20, 3, 16, 16, dtype=torch.uint8), labels, TINY, names, tmp_path / "x.safetensors")


def test_augmentation_with_every_amount_zero_changes_nothing():
    x = torch.rand(4, 3, 16, 16) * 2 - 1
    still = Augmentation(shift=0, zoom=0, blur=0, contrast=0, brightness=0, noise=0, erase=0)
    torch.testing.assert_close(augment(x, still, torch.Generator()), x, rtol=0, atol=1e-5)


def test_augmentation_keeps_the_range_and_is_its_generators():
    x = torch.rand(4, 3, 16, 16) * 2 - 1
    first, second = (augment(x, Augmentation(), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.abs().max() <= 1 and not torch.equal(first, x)


def test_rendered_portraits_are_what_their_labels_say():
    images, labels, attributes = rendered(6, seed=5)
    assert images.shape == (6, 3, 64, 64) and images.dtype == torch.uint8
    assert torch.equal(labels.bool(), attributes[:, ATTRIBUTES.index("smile")])
    assert [portrait.attributes for _, portrait in draw(6, 5)] == [tuple(row) for row in attributes.tolist()]


@pytest.mark.parametrize(("name", "learns"), [("planted", "classes"), ("oracle", "attributes")])
def test_a_recipe_trains_a_network_that_says_what_it_tells(tmp_path, name, learns):
    recipe = RECIPES[name]._replace(images=20, training=TINY.model_copy(update={"steps": 2}))
    facts: dict[str, Any] = dict(read_facts(train_on_portraits(recipe, tmp_path / "network.safetensors")))
    assert tuple(facts[learns]) == recipe.learns and facts["input_size"] == 64


@pytest.fixture(scope="module")
def fresh() -> tuple[Tensor, Tensor, Tensor]:
    images, labels, attributes = rendered(200, seed=20_000)
    return from_uint8(images), labels, attributes


def bundled(name: str) -> TorchClassifier:
    return load_classifier(ClassifierConfig(weights=Path(f"portraits:{name}")))


def test_the_bundled_oracle_reads_fresh_portraits(fresh):
    x, _, attributes = fresh
    oracle = load_oracle(OracleConfig(weights=Path("portraits:oracle")))
    assert oracle.attributes == ATTRIBUTES
    right = ((oracle(x) > 0.5) == attributes).float()
    shares = dict(zip(ATTRIBUTES, right.mean(0).tolist(), strict=True))
    assert min(shares.values()) >= 0.99, shares


def test_the_bundled_judge_reads_fresh_portraits(fresh):
    x, labels, _ = fresh
    judge = bundled("judge")
    assert judge.classes == ("not_smiling", "smiling")
    assert (judge(x).argmax(1) == labels).float().mean() >= 0.995


def test_judge_and_oracle_read_portraits_with_a_diffusion_models_flaws(fresh):
    x, labels, attributes = fresh
    flawed = augment(x, Augmentation(shift=0, zoom=0, erase=0), torch.Generator().manual_seed(0))
    oracle = load_oracle(OracleConfig(weights=Path("portraits:oracle")))
    assert (bundled("judge")(flawed).argmax(1) == labels).float().mean() >= 0.98
    assert ((oracle(flawed) > 0.5) == attributes).float().mean() >= 0.98


def test_the_planted_twin_leans_on_glasses_and_the_clean_twin_does_not():
    portraits = [portrait for _, portrait in draw(64, 20_001)]
    planted, clean = (
        {row.attribute: row.effect for row in true_effects(bundled(name), portraits)} for name in ("planted", "clean")
    )
    assert planted["smile"] > 0.3 and clean["smile"] > 0.7
    assert 0.2 < planted["glasses"] < 0.5 and abs(clean["glasses"]) < 0.02
    others = set(ATTRIBUTES) - {"smile", "glasses"}
    assert max(abs(effects[name]) for effects in (planted, clean) for name in others) < 0.05
