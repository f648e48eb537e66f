"""Where Grad-CAM looks in networks as people have them: the layer by its name, and a mark that alone decides lights up there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from cfx.classifiers.network import Network, NetworkConfig
from cfx.classifiers.torch_module import TorchClassifier
from cfx.errors import UserError
from cfx.saliency.final_layer import Grid, grid_of, watched
from cfx.saliency.maps import Saliency, default_map, saliency
from tasks.config import SaliencyConfig
from tasks.stages.saliency import check_saliency

CAM = Saliency(map="grad_cam")


def behind(module: nn.Module) -> TorchClassifier:
    """The network as a classifier of two classes, with no weight at zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1 or not parameter.any():
                parameter.add_(0.1 * torch.randn_like(parameter))
    network = Network(module, "theirs", NetworkConfig(module="torch.nn:Module"), {}).eval().requires_grad_(False)
    return TorchClassifier(network, ("a", "b")).eval()


def tv(name: str, **kwargs: Any) -> Callable[[], nn.Module]:
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=2, **kwargs)


def tm(name: str, **kwargs: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=2, **kwargs)


SMALL: dict[str, Any] = {"img_size": 64, "embed_dim": 24, "depth": 2, "num_heads": 2}


class Functional(nn.Module):
    """Residual, its sum without a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second, self.fc = (
            nn.Conv2d(3, 8, 3, 2),
            nn.Conv2d(8, 8, 1),
            nn.Conv2d(8, 8, 3, 1, 1),
            nn.Linear(8, 2),
        )

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x).relu()
        x = x + self.second(self.first(x).relu())
        return self.fc(x.mean((2, 3)))


class TwoScales(nn.Module):
    """Its head sees features of two scales, so no late layer has all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep, self.fc = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, 2), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        return self.fc(torch.cat([x.mean((2, 3)), self.deep(x).relu().mean((2, 3))], dim=1))


class Sequence(nn.Module):
    """Transformer of torch's own kind over patches, with or without a class token; sequence first if not `batch_first`."""

    def __init__(self, token: bool, batch_first: bool = True, norm_first: bool = False) -> None:
        super().__init__()
        self.patches, self.batch_first = nn.Conv2d(3, 16, 16, 16), batch_first
        self.token = nn.Parameter(torch.randn(1, 1, 16)) if token else None
        layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=batch_first, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.fc = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Any:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1)
        seen = self.encoder(tokens if self.batch_first else tokens.transpose(0, 1))
        seen = seen if self.batch_first else seen.transpose(0, 1)
        return self.fc(seen.mean(1) if self.token is None else seen[:, 0])


class Auxiliary(nn.Module):
    """A second head runs last and is answered, too."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc, self.extra = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU()), nn.Linear(8, 2), nn.Conv2d(8, 4, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.body(x)
        return {"logits": self.fc(x.mean((2, 3))), "segments": self.extra(x)}


CLS, ALL = "blocks.1.norm1", "blocks.1"
LAYERS: dict[str, tuple[Callable[[], nn.Module], int, str, Grid]] = {
    "googlenet": (tv("googlenet", init_weights=False), 64, "inception5b", Grid("channels first", 2, 2)),
    "resnet18": (tv("resnet18"), 64, "layer4", Grid("channels first", 2, 2)),
    "squeezenet": (tv("squeezenet1_1"), 64, "classifier.2", Grid("channels first", 3, 3)),
    "mobilenet": (tv("mobilenet_v3_small"), 64, "features", Grid("channels first", 2, 2)),
    "shufflenet": (tv("shufflenet_v2_x0_5"), 64, "conv5", Grid("channels first", 2, 2)),
    "torchvision vit": (
        lambda: torchvision.models.VisionTransformer(64, 16, 2, 2, 24, 48, num_classes=2),
        64,
        "encoder.layers.encoder_layer_1.ln_1",
        Grid("tokens", 4, 4, 1),
    ),
    "torchvision swin": (
        lambda: torchvision.models.SwinTransformer([4, 4], 16, [1, 1, 1], [1, 2, 2], [2, 2], num_classes=2),
        64,
        "norm",
        Grid("channels last", 4, 4),
    ),
    "timm resnet": (tm("test_resnet"), 64, "layer4", Grid("channels first", 2, 2)),
    "timm convnext": (tm("test_convnext"), 64, "stages", Grid("channels first", 2, 2)),
    "timm efficientnet": (tm("test_efficientnet"), 64, "bn2", Grid("channels first", 2, 2)),
    "timm nfnet": (tm("test_nfnet"), 64, "final_act", Grid("channels first", 2, 2)),
    "timm mambaout": (tm("test_mambaout"), 64, "stages", Grid("channels last", 2, 2)),
    "timm vit": (tm("vit_tiny_patch16_224", **SMALL), 64, CLS, Grid("tokens", 4, 4, 1)),
    "timm vit, averaged": (tm("vit_tiny_patch16_224", global_pool="avg", **SMALL), 64, "blocks", Grid("tokens", 4, 4, 1)),
    "timm vit, pooled by attention": (tm("test_vit3"), 160, "norm", Grid("tokens", 10, 10, 1)),
    "deit, distilled": (tm("deit_tiny_distilled_patch16_224", **SMALL), 64, CLS, Grid("tokens", 4, 4, 2)),
    "dinov2 with registers": (tm("vit_small_patch14_reg4_dinov2", **SMALL | {"img_size": 56}), 56, CLS, Grid("tokens", 4, 4, 5)),
    "siglip": (tm("vit_base_patch16_siglip_224", **SMALL), 64, "norm", Grid("tokens", 4, 4)),
    "beit": (tm("beit_base_patch16_224", **SMALL), 64, ALL, Grid("tokens", 4, 4, 1)),
    "eva": (tm("eva02_tiny_patch14_224", **SMALL | {"img_size": 56}), 56, ALL, Grid("tokens", 4, 4, 1)),
    "cait": (tm("cait_xxs24_224", **SMALL), 64, "blocks_token_only.1.norm1", Grid("tokens", 4, 4, 1)),
    "timm swin": (
        tm("swin_tiny_patch4_window7_224", img_size=128, window_size=4, depths=(1, 1, 1), embed_dim=16, num_heads=(1, 1, 2)),
        128,
        "norm",
        Grid("channels last", 8, 8),
    ),
    "mixer": (
        lambda: timm.models.MlpMixer(num_classes=2, img_size=64, patch_size=16, num_blocks=2, embed_dim=24),
        64,
        "norm",
        Grid("tokens", 4, 4),
    ),
    "auxiliary head": (Auxiliary, 64, "body", Grid("channels first", 31, 31)),
    "sequence, averaged": (lambda: Sequence(False), 64, "encoder", Grid("tokens", 4, 4)),
    "sequence, class token": (lambda: Sequence(True), 64, "encoder.layers.0", Grid("tokens", 4, 4, 1)),
    "sequence, norm first": (lambda: Sequence(True, norm_first=True), 64, "encoder.layers.1.norm1", Grid("tokens", 4, 4, 1)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_layer_is_the_last_that_covers_the_final_features(name: str) -> None:
    make, side, layer, grid = LAYERS[name]
    classifier = behind(make())
    assert watched(classifier, None, (side, side)) == (layer, grid)
    x = torch.randn(2, 3, side, side)
    for kind in ("grad_cam", "grad_cam++"):
        found = saliency(classifier, x, torch.tensor([0, 1]), Saliency(map=kind))
        assert found.shape == (2, grid.height, grid.width) and found.isfinite().all()
    assert default_map(classifier, (side, side)).map == "grad_cam"
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in classifier.modules())


NONE: dict[str, tuple[Callable[[], nn.Module], int, str]] = {
    "sums without a module": (Functional, 64, "all pass 'stem', but 'first' and others still work on places after it"),
    "two scales": (TwoScales, 64, "all pass 'stem', but 'deep' and others"),
    "sequence first": (
        lambda: Sequence(False, batch_first=False),
        64,
        "all pass 'patches', but 'encoder.layers.0.linear1' and others",
    ),
    "two branches": (tm("crossvit_tiny_240", img_size=240), 240, "no layer with places that all of the image passes"),
    "flat": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2)), 16, "no layer with places"),
    "pooled to one place": (tv("inception_v3", init_weights=False), 96, "all pass 'Mixed_6e', but 'Mixed_7a"),
}


@pytest.mark.parametrize("name", NONE)
def test_without_such_a_layer_there_is_no_grad_cam_by_name_and_the_default_is_another_map(name: str) -> None:
    make, side, words = NONE[name]
    classifier = behind(make())
    with pytest.raises(UserError, match=words):
        check_saliency(SaliencyConfig(maps=(CAM,)), classifier, (side, side))
    assert default_map(classifier, (side, side)).map == "integrated_gradients"


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("aux2.conv", "layer 'aux2.conv' does not run when the GoogLeNet answers"),
        ("avgpool", "layer 'avgpool' of the GoogLeNet has no places to look at, or more than once: it gives"),
        ("fc", r"no places to look at, or more than once: it gives \(2, 2\)"),
        ("inception9", "layer 'inception9' is not in the GoogLeNet"),
    ],
)
def test_a_layer_that_cannot_be_looked_at_is_refused_before_any_work(layer: str, words: str) -> None:
    classifier = behind(torchvision.models.googlenet(num_classes=2, init_weights=False))
    with pytest.raises(UserError, match=words):
        check_saliency(SaliencyConfig(maps=(Saliency(map="grad_cam", layer=layer),)), classifier, (64, 64))


def test_of_a_vits_last_norm_nothing_reaches_the_logits_but_the_class_token() -> None:
    classifier = behind(tm("vit_tiny_patch16_224", **SMALL)())
    with pytest.raises(UserError, match="nothing that layer 'norm' of the VisionTransformer says of places reaches its logits"):
        check_saliency(SaliencyConfig(maps=(Saliency(map="grad_cam", layer="norm"),)), classifier, (64, 64))
    check_saliency(SaliencyConfig(maps=(Saliency(map="grad_cam", layer="blocks.0"),)), classifier, (64, 64))


@pytest.mark.parametrize(
    ("shape", "image", "grid"),
    [
        ((2, 512, 7, 7), (224, 224), Grid("channels first", 7, 7)),
        ((2, 7, 7, 768), (224, 224), Grid("channels last", 7, 7)),
        ((2, 8, 4, 6), (64, 96), Grid("channels first", 4, 6)),
        ((2, 4, 6, 8), (64, 96), Grid("channels last", 4, 6)),
        ((2, 197, 192), (224, 224), Grid("tokens", 14, 14, 1)),
        ((2, 198, 192), (224, 224), Grid("tokens", 14, 14, 2)),
        ((2, 201, 192), (224, 224), Grid("tokens", 14, 14, 5)),
        ((2, 25, 192), (64, 96), Grid("tokens", 4, 6, 1)),  # not 5 x 5
        ((2, 25, 192), (64, 64), Grid("tokens", 5, 5)),
        ((2, 16, 8), (32, 128), Grid("tokens", 2, 8)),  # not 4 x 4
        ((2, 512, 1, 1), (224, 224), None),
        ((2, 512), (224, 224), None),
        ((49, 2, 512), (224, 224), None),  # sequence first
        ((2, 3, 300, 300), (224, 224), None),
    ],
)
def test_places_in_a_shape(shape: tuple[int, ...], image: tuple[int, int], grid: Grid | None) -> None:
    assert grid_of(torch.Size(shape), 2, image) == grid


def test_places_are_taken_out_and_put_back() -> None:
    shapes = {
        Grid("tokens", 2, 3, 1): (2, 7, 4),
        Grid("channels last", 2, 3): (2, 2, 3, 4),
        Grid("channels first", 2, 3): (2, 4, 2, 3),
    }
    for grid, shape in shapes.items():
        output = torch.randn(shape)
        maps = grid.maps(output)
        assert maps.shape == (2, 4, 2, 3) and torch.equal(grid.put(maps, output), output)


MARKED = {
    "timm resnet": 128,
    "timm convnext": 128,
    "torchvision vit": 64,
    "torchvision swin": 64,
    "timm vit": 64,
    "timm vit, averaged": 64,
    "beit": 64,
    "eva": 56,
    "timm swin": 128,
    "mixer": 64,
}


@pytest.mark.parametrize("name", MARKED)
def test_a_mark_that_alone_decides_lights_up(name: str) -> None:
    """In networks whose places do not each see the whole image, even untrained. The last linear layer is fitted, in closed form,
    to tell images with the mark, in one of 4 x 4 cells, from the same without."""
    classifier, side = behind(LAYERS[name][0]()), MARKED[name]
    cell, generator = side // 4, torch.Generator().manual_seed(3)
    plain = 0.1 * torch.randn(48, 3, side, side, generator=generator)
    rows, columns = torch.randint(4, (2, 48), generator=generator) * cell
    marked = plain.clone()
    for image, row, column in zip(marked, rows, columns, strict=True):
        image[:, row : row + cell, column : column + cell] = torch.tensor([1.0, -1.0, 1.0])[:, None, None]
    head = next(part for part in reversed(list(classifier.modules())) if isinstance(part, nn.Linear) and part.out_features == 2)
    seen: list[Tensor] = []
    with torch.no_grad():
        for part in classifier.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.train().momentum = 1.0
        classifier(torch.cat([marked, plain]))
        classifier.eval()
        handle = head.register_forward_pre_hook(lambda module, args: seen.append(args[0].flatten(1)))
        classifier(torch.cat([marked, plain]))
        handle.remove()
        difference = seen[0][:48].mean(0) - seen[0][48:].mean(0)
        head.weight.copy_(torch.stack([-difference, difference]) / difference.norm())
        head.bias.zero_()
    found = saliency(classifier, marked, torch.ones(48, dtype=torch.long), CAM)
    peak, pixels = found.flatten(1).argmax(1), side / found.shape[-1]
    y, x = (peak // found.shape[-1] + 0.5) * pixels, (peak % found.shape[-1] + 0.5) * pixels
    inside = (y >= rows) & (y < rows + cell) & (x >= columns) & (x < columns + cell)
    assert inside.float().mean() >= 0.75  # by chance: 1 in 16
