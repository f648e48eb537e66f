"""HiT: its logit is a sum over patches and over layers; its attention is torch's; released files load on request only."""

import argparse
from collections.abc import Callable

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from cfx.checkpoint import read_facts, read_state_dict
from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.metrics.insertion_deletion import filled
from cfx.networks.blanking import blank_patches
from cfx.networks.cost import flops
from cfx.networks.hit import PRESETS, HinderedAttention, HiT, HiTShape, hit
from cfx.networks.vit import vit
from cfx.saliency.layer_ablation import layer_ablation
from cfx.training.hit import RECIPES, HiTTraining, steps, train_hit
from cfx.training.three_augment import Mixing, ThreeAugment, mix, three_augment

TINY = HiTShape(size=16, patch=4, width=8, heads=2, blocks=(3,))
POOLED = HiTShape(size=16, patch=2, width=8, heads=2, blocks=(2, 1, 1))
SHAPES = {
    **PRESETS,
    "portraits-pool": HiTShape(size=64, patch=4, width=64, heads=4, blocks=(2, 2)),
    "tiny": TINY,
    "tiny-pool": POOLED,
}


def random_hit(shape: HiTShape, outputs: int = 3) -> HiT:
    """Every weight drawn at random: the initial zeros of head, class token and biases would hide what is forgotten."""
    torch.manual_seed(0)
    network = HiT(outputs, shape).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_patches_and_layers_add_up_to_the_logits(name):
    network = random_hit(SHAPES[name])
    x = torch.randn(2, 3, SHAPES[name].size, SHAPES[name].size)
    parts = network.contributions(x)
    logits = network(x)
    assert logits.std() > 0.01
    assert torch.equal(parts.logits, logits)
    assert parts.patches.shape == (2, 3, SHAPES[name].side, SHAPES[name].side)
    assert parts.layers.shape == (2, 1 + sum(SHAPES[name].blocks), 3)
    assert torch.allclose(parts.patches.sum((2, 3)) + network.head.bias, logits, atol=1e-4, rtol=0)
    assert torch.allclose(parts.layers.sum(1) + network.head.bias, logits, atol=1e-4, rtol=0)


@torch.no_grad()
def test_attention_is_torchs_multi_head_attention_of_one_query():
    torch.manual_seed(1)
    reference = nn.MultiheadAttention(24, 4, batch_first=True).eval()
    for parameter in reference.parameters():
        parameter.copy_(0.4 * torch.randn_like(parameter))
    attention = HinderedAttention(24, 4).eval()
    attention.load_state_dict(reference.state_dict())
    cls, tokens = torch.randn(3, 24), torch.randn(3, 9, 24)
    update, weights = attention(cls, tokens)
    expected, expected_weights = reference(cls[:, None], tokens, tokens, average_attn_weights=False)
    assert torch.allclose(update, expected[:, 0], atol=1e-5)
    assert torch.allclose(weights, expected_weights[:, :, 0], atol=1e-6)
    assert torch.allclose(attention.per_token(weights, tokens).sum(1), update, atol=1e-5)


@torch.no_grad()
def test_a_patch_contributes_by_what_it_shows_and_not_by_its_neighbours():
    """Attention weights are shared out among patches, but what a patch says (its token at any layer) is its own."""
    network = random_hit(TINY)
    x = torch.randn(1, 3, 16, 16)
    other = x.clone()
    other[..., 8:] = torch.randn(1, 3, 16, 8)  # the right half: patches 2 and 3 of each row
    for one, two in zip(network.walk(x), network.walk(other), strict=True):
        left = torch.tensor([0, 1, 4, 5, 8, 9, 12, 13])
        assert torch.equal(one.tokens[:, left], two.tokens[:, left])


@torch.no_grad()
def test_pooled_contributions_are_shared_equally_by_the_patches_below():
    spread = random_hit(POOLED).spread(torch.arange(16.0).view(1, 16, 1))
    grid = spread.view(8, 8)
    assert torch.equal(grid[:2, :2], torch.zeros(2, 2))
    assert torch.equal(grid[:2, 2:4], torch.full((2, 2), 0.25))
    assert spread.sum() == 120


@pytest.mark.parametrize(
    ("name", "millions"), [("hit-s-no-pool", 20.87), ("hit-b-no-pool", 81.84)]
)  # published: 20.8 and 81.8 (thesis, table 6.1)
def test_published_number_of_parameters(name, millions):
    with torch.device("meta"):
        network = hit(1000, name)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def test_cost_grows_linearly_in_the_tokens_and_a_vits_does_not():
    sizes = (32, 64, 128)  # 16, 64, 256 tokens of patch 8
    shapes = [HiTShape(size=size, patch=8, width=32, heads=2, blocks=(2,)) for size in sizes]

    def per_token(make: Callable[[int, HiTShape], nn.Module]) -> list[float]:
        smallest, *larger = [flops(make(2, shape), shape.size) // 2 for shape in shapes]
        return [(cost - smallest) / (shape.side**2 - 16) for cost, shape in zip(larger, shapes[1:], strict=True)]

    hinders, plain = per_token(HiT), per_token(vit)
    assert hinders[0] == hinders[1]
    # a layer looks at 2 D (N + 1)^2; beyond the first 16 tokens that is 2 D (N + 18) a token; two layers, D = 32
    assert plain[1] - plain[0] == 2 * 2 * 32 * (256 - 64)


def test_counted_cost_of_a_hit_by_hand():
    """Tokens N = 16, width D = 8, H = 2 heads, K = 3 classes, two flops a multiplication."""
    tokens, width, heads = 16, 8, 2
    patches = tokens * width * 3 * 4**2
    attention = 4 * width**2 + 2 * tokens * width * heads  # query, key, value, output once; scores and mean per token and head
    mlp = tokens * 2 * width * 4 * width
    assert flops(HiT(3, TINY), 16) == 2 * (patches + 3 * attention + 2 * mlp + width * 3)


def test_released_checkpoints_load_only_on_request(tmp_path):
    """Laid out as the released files are: weights under `model`, and an argparse.Namespace beside them."""
    network = random_hit(POOLED)
    assert "encoder.layers.block_1.encoder_layer_0.self_attention.in_proj_weight" in network.state_dict()
    assert "encoder.layers.encoder_layer_1.mlp.3.bias" in random_hit(TINY).state_dict()
    assert "encoder.layers.encoder_layer_2.mlp.3.bias" not in random_hit(TINY).state_dict()  # the last MLP would reach no logit
    path = tmp_path / "hit.pth"
    args = argparse.Namespace(model="hit", lr=8e-4)
    torch.save({"model": network.state_dict(), "optimizer": {}, "epoch": 599, "scaler": {}, "args": args}, path)
    settings = {
        "weights": path,
        "module": "cfx.networks.hit:HiT",
        "kwargs": {"outputs": 3, "shape": POOLED.model_dump()},
        "classes": ("a", "b", "c"),
        "input_size": 16,
    }
    with pytest.raises(ValueError, match="allow_pickle"):
        load_classifier(ClassifierConfig(**settings))
    classifier = load_classifier(ClassifierConfig(**settings, allow_pickle=True))
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.allclose(classifier(x), network(x), atol=1e-6)
    wrong = settings | {"kwargs": {"outputs": 3, "shape": TINY.model_dump()}, "allow_pickle": True}
    with pytest.raises(ValueError, match=r"encoder\.layers\.encoder_layer_0\.ln_1\.weight"):
        load_classifier(ClassifierConfig(**wrong))


def test_presets_have_names():
    with pytest.raises(ValueError, match="'hit-xl'; choose one of hit-s-no-pool"):
        hit(10, "hit-xl")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 60, "patch": 16}, "60 is not a multiple of 16"),
        ({"size": 72, "patch": 8, "blocks": (1, 1, 1)}, "72 is not a multiple of 32"),
        ({"width": 10, "heads": 4}, "width 10 cannot be shared by 4 heads"),
        ({"blocks": (2, 0)}, "every block needs a layer"),
    ],
)
def test_shapes_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        HiTShape(**wrong)


def test_ablating_layers():
    network = random_hit(TINY, outputs=2)
    x = torch.randn(32, 3, 16, 16)
    with torch.no_grad():
        labels = network(x).argmax(1)
    ablation = layer_ablation(network, x, labels)
    assert ablation.inserted[-1] == 1.0  # all layers: the network itself
    assert ablation.removed[-1] == ablation.removed[-1]
    assert ablation.excluded[-1] == ablation.inserted[-2]  # all but the last of three
    assert ablation.exclusive[0] == ablation.inserted[0]
    assert all(0 <= value <= 1 for values in ablation for value in values)


def test_mixing_keeps_images_and_labels_in_step():
    x, labels = torch.zeros(4, 3, 8, 8), torch.tensor([0, 0, 1, 1])
    x[2:] = 1.0  # the label is the brightness, so the mixed label must be the mean brightness
    import numpy as np

    for config in (Mixing(mixup=0.8, cutmix=0), Mixing(mixup=0, cutmix=1.0), Mixing()):
        for seed in range(8):
            mixed, targets = mix(x, labels, 2, config, np.random.default_rng(seed))
            assert torch.allclose(targets[:, 1], mixed.mean((1, 2, 3)), atol=1e-6)
            assert torch.allclose(targets.sum(1), torch.ones(4))
    unmixed, targets = mix(x, labels, 2, Mixing(mixup=0, cutmix=0), np.random.default_rng(0))
    assert torch.equal(unmixed, x)
    assert torch.equal(targets.argmax(1), labels)


def test_three_augment_stays_in_range_and_belongs_to_its_generator():
    x = torch.rand(12, 3, 32, 32) * 2 - 1
    one, two = (three_augment(x, ThreeAugment(), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == x.shape
    assert one.min() >= -1 and one.max() <= 1
    assert not torch.equal(one, three_augment(x, ThreeAugment(), torch.Generator().manual_seed(4)))


def brighter_half(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey noise with one bright patch: label 1 where it lies in the right half."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(90, 110, (n, 3, 16, 16), generator=generator, dtype=torch.uint8)
    labels = torch.randint(2, (n,), generator=generator)
    for index, label in enumerate(labels):
        images[index, :, 4:8, 8 * label : 8 * label + 4] = 250
    return images, labels


SMALL = RECIPES["portraits"].model_copy(
    update={"shape": TINY.model_copy(update={"width": 16}), "batch": 16, "epochs": 12.0, "learning_rate": 3e-3}
    | {"blanked": 0.2, "checkpoint_every": 50}
)


class Killed(Exception):
    pass


def test_training_learns_and_a_killed_one_comes_to_the_same_end(tmp_path):
    images, labels = brighter_half(200)
    config, names = SMALL, ("left", "right")
    reported: list[int] = []
    one = train_hit(images, labels, config, names, tmp_path / "one.safetensors", lambda step, loss: reported.append(step))
    assert reported == list(range(1, 136)) and steps(config, 200) == 135

    def kill(step: int, loss: float) -> None:
        if step == 120:
            raise Killed

    two = tmp_path / "two.safetensors"
    with pytest.raises(Killed):
        train_hit(images, labels, config, names, two, kill)
    with pytest.raises(ValueError, match="two.safetensors.checkpoint belongs to another configuration"):
        train_hit(images, labels, config.model_copy(update={"epochs": 13.0}), names, two)
    reported.clear()
    train_hit(images, labels, config, names, two, lambda step, loss: reported.append(step))
    assert reported[0] == 101 and one.read_bytes() == two.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.safetensors", "two.safetensors"]
    assert read_facts(one)["accuracy"] >= 0.9
    classifier = load_classifier(ClassifierConfig(weights=one))  # says itself what it is
    assert classifier.classes == names
    assert isinstance(classifier.network.module, HiT)


def test_a_vit_is_trained_by_the_same_recipe(tmp_path):
    images, labels = brighter_half(200)
    config = SMALL.model_copy(update={"architecture": "vit", "epochs": 2.0})
    path = train_hit(images, labels, config, ("left", "right"), tmp_path / "vit.safetensors")
    assert isinstance(load_classifier(ClassifierConfig(weights=path)).network.module, VisionTransformer)


def test_training_goes_on_from_a_released_file_with_a_new_head(tmp_path):
    images, labels = brighter_half(20)
    released = random_hit(TINY, outputs=5)
    torch.save({"model": released.state_dict(), "args": argparse.Namespace(lr=8e-4)}, tmp_path / "released.pth")
    settings = {
        "shape": TINY,
        "epochs": 1,
        "batch": 18,
        "learning_rate": 0.0001,
        "start": tmp_path / "released.pth",
        "warm_up": 0,
    }
    with pytest.raises(ValueError, match="allow_pickle"):
        train_hit(images, labels, HiTTraining(**settings), ("left", "right"), tmp_path / "no.safetensors")
    path = train_hit(
        images, labels, HiTTraining(**settings, allow_pickle=True), ("left", "right"), tmp_path / "tuned.safetensors"
    )
    tuned, before = read_state_dict(path), released.state_dict()
    assert tuned["heads.head.weight"].shape == (2, 8)
    assert all((tuned[name] - before[name]).abs().max() < 1e-3 for name in tuned if not name.startswith("heads"))


def test_blanked_patches_are_whole_and_hold_grey_or_blur():
    x = torch.rand(64, 3, 32, 32) * 2 - 1
    blank = blank_patches(x, 4, 1.0, torch.Generator().manual_seed(0))
    grids = (blank != x).any(1).unflatten(1, (8, 4)).unflatten(3, (8, 4)).float().mean((2, 4))  # (64, 8, 8)
    assert ((grids == 0) | (grids == 1)).all()
    assert grids.mean((1, 2)).min() < 0.1 and grids.mean((1, 2)).max() > 0.9  # from nothing to nearly all
    grey = ((blank == 0) | (blank == x)).all(1).flatten(1).all(1)
    blurred = ((blank == filled(x, "blur")) | (blank == x)).all(1).flatten(1).all(1)
    assert grey[:32].all() and blurred[32:].all() and grey.sum() < 40
    assert torch.equal(blank_patches(x, 4, 0.0, torch.Generator()), x)


def test_the_papers_recipe_takes_a_step(tmp_path):
    """All of it: repeated and three-fold augmentation, mixing, smoothing, attention dropout."""
    images, labels = brighter_half(40)
    config = RECIPES["imagenet"].model_copy(update={"shape": POOLED, "epochs": 1.0, "batch": 12, "drop_path": 0.1})
    assert (config.repeats, config.learning_rate, config.weight_decay, config.label_smoothing) == (3, 8e-4, 0.05, 0.1)
    assert (config.mixing.mixup, config.mixing.cutmix, config.attention_dropout) == (0.8, 1.0, 0.2)
    losses: list[float] = []
    train_hit(images, labels, config, ("left", "right"), tmp_path / "hit.safetensors", lambda step, loss: losses.append(loss))
    assert len(losses) == 3
    assert all(loss > 0 for loss in losses)


def test_images_of_another_size_are_refused(tmp_path):
    images, labels = brighter_half(20)
    with pytest.raises(ValueError, match=r"\(16, 16\), but shape\.size is 64"):
        train_hit(images, labels, RECIPES["portraits"], ("left", "right"), tmp_path / "hit.safetensors")
    with pytest.raises(ValueError, match="9 images with 9 labels"):
        train_hit(images[:9], labels[:9], SMALL, ("left", "right"), tmp_path / "hit.safetensors")


def test_the_defaults_are_the_papers():
    assert HiTTraining() == RECIPES["imagenet"]
    assert {name: RECIPES[name].learning_rate for name in ("cub", "dogs", "cars")} == {"cub": 1e-4, "dogs": 5e-5, "cars": 4e-4}
    assert HiTTraining(shape="hit-b").shape == PRESETS["hit-b"]
    with pytest.raises(ValueError, match="'hit-xl'; choose one of hit-s-no-pool"):
        HiTTraining(shape="hit-xl")
