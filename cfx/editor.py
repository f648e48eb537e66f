"""The editor: a copy of the prior's UNet that has learned from a ladder's counterfactuals to draw them in one pass.

It proposes the image towards a class, the null beside it, and the mask that holds the change; the prior tidies both. It only
proposes: whoever uses it queries the classifier, and searches where a proposal fails. A search amortised (Amos 2023,
arXiv:2202.00665), as FastSHAP amortises Shapley values (Jethani et al. 2022, arXiv:2107.07436), from the very images that an
audit has explained already.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import UNet2DModel
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, max_pool2d, pixel_shuffle, pixel_unshuffle, relu

from cfx.checkpoint import Facts, fit, read_facts, read_state_dict, save_network
from cfx.diffusion.compiled import Compiled
from cfx.diffusion.ddpm import DDPM, mirrored
from cfx.diffusion.forward_passes import ForwardPasses
from cfx.errors import UserError
from cfx.random import derived_seed
from cfx.training.loop import descend
from cfx.types import Classifier, Config

FEWEST = 16  # examples of a pair of classes, below which nothing is proposed for it
MOVED = 0.3  # of the image's largest difference from its null: where more, the classifier's guidance moved the pixel
DILATION = 5  # side of the square, pixels, by which the mask of those pixels grows
SMOOTHED = 3  # side of the square, pixels, over which the mask's logits are averaged: no lone pixels
KEPT = 0.1  # how much a pixel outside the mask counts in the likeness; inside it counts 1 more
NULLS = 0.25  # weight of the null's likeness beside that of the counterfactual
AS_IN_MASK = 20.0  # weight of the likeness beside the mask's cross-entropy
SLACK = 2.0  # a proposal may change so many times less, or more, than any example does
UNSURE = 0.05  # share of the examples that persuade the classifier less than a proposal has to
TIDIED = 0.9  # alpha bar of the noise that a drawing is taken to have where the prior tidies it
MAPS = 20.0  # the maps of the pairs start from nothing, so they learn so many times as fast as the network
Pair = tuple[int, int]  # source and target, class ids


class EditorTraining(Config):
    """An editor that proposes the explanations of an audit after its first ones, which it learns from."""

    examples: int = Field(
        96, ge=2 * FEWEST, description="images that the ladder explains first, rounded up to whole shards; a quarter is held out"
    )
    steps: int = Field(50, ge=1, description="optimizer steps")
    batch: int = Field(8, ge=1, description="examples an optimizer step")
    learning_rate: float = Field(1.2e-3, gt=0)
    flip: float = Field(0.5, ge=0, description="weight of the classifier's answer beside likeness to the examples")
    margin: float = Field(2.0, ge=0, description="logits between the target and the next class, beyond which more is no better")
    noise: float = Field(
        0.2,
        ge=0,
        description="deviation of the noise, on [-1, 1], through which the classifier sees what is drawn in training",
    )
    seed: int = 0


class Examples(NamedTuple):
    """What a ladder drew for N images, rounded to 8 bits."""

    x: Tensor  # (N, 3, H, W) in [-1, 1]
    source: Tensor  # (N,) class ids
    target: Tensor  # (N,)
    guided: Tensor  # (N, 3, H, W), the counterfactuals
    null: Tensor  # (N, 3, H, W), what the same method drew without guidance
    p_target: Tensor  # (N,) of the counterfactual, by the classifier that the proposals have to persuade

    def of(self, rows: Tensor) -> Examples:
        """Some of them, by their positions or by a mask (N,)."""
        return Examples(*(part[rows] for part in self))


class Bounds(NamedTuple):
    """What is plausible: as the examples have it."""

    least: float  # share of the image that the mask covers
    most: float
    farthest: float  # mean |x_cf - x|, on [-1, 1]
    sure: float  # P(target) by the classifier, at least


class Proposal(NamedTuple):
    """A counterfactual and the mask of zeros and ones that holds it; outside the mask it is the image, bit for bit."""

    x_cf: Tensor  # (B, 3, H, W) in [-1, 1]
    mask: Tensor  # (B, 1, H, W)
    without: Tensor  # (B, 3, H, W): the null inside the same mask, before the prior has tidied it (`Editor.null`)


class Drawing(nn.Module):
    """The prior's UNet with a head for either arm and one for the mask, and a map for each pair of classes.

    The image is folded as the prior folds it, and the pair's map is added: all that tells the network what is wanted.
    """

    def __init__(self, prior: DDPM, pairs: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.unet = copy.deepcopy(unet_of(prior))
        self.channels, self.patch, self.multiple = prior.channels, prior.patch, prior.multiple
        self.direct = prior.schedule.prediction_type == "sample"  # its answer is the clean image itself
        before, self.parts = self.unet.conv_out, (self.channels, self.channels, self.patch**2)
        heads = nn.Conv2d(before.in_channels, sum(self.parts), before.kernel_size, padding=before.padding).to(before.weight)
        assert heads.bias is not None
        with torch.no_grad():
            heads.weight.zero_()
            heads.bias.zero_()
            if self.direct:
                heads.weight[: self.channels] = before.weight[: self.channels]
                heads.bias[: self.channels] = before.bias[: self.channels]
            heads.bias[-self.parts[2] :] = -2.0  # the mask: little, at first
        self.unet.conv_out = heads
        folded = [-(-side // self.multiple) * self.multiple // self.patch for side in size]
        self.maps = nn.Parameter(torch.zeros(pairs, self.channels, *folded, device=before.weight.device))

    def groups(self) -> list[dict[str, Any]]:
        """The parameters by how fast they learn, `times` the rate."""
        rest = [value for name, value in self.named_parameters() if name != "maps"]
        return [{"params": rest, "times": 1.0}, {"params": [self.maps], "times": MAPS}]

    def folded(self, x: Tensor, pair: Tensor) -> Tensor:
        """What the UNet sees of x (B, 3, H, W) in [-1, 1]; pair: (B,), which of the pairs."""
        return pixel_unshuffle(mirrored(x, self.multiple), self.patch) + self.maps[pair]

    def unfolded(self, out: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The UNet's answer as guided and null images (B, 3, H, W) in [-1, 1], changed everywhere, and logits (B, 1, H, W) of
        the mask."""
        height, width = x.shape[-2:]
        guided, null, logits = (pixel_shuffle(part, self.patch)[..., :height, :width] for part in out.split(self.parts, 1))
        guided, null = guided if self.direct else x + guided, x + null
        logits = avg_pool2d(logits, SMOOTHED, 1, SMOOTHED // 2, count_include_pad=False)
        return guided.clamp(-1, 1), null.clamp(-1, 1), logits

    def forward(self, x: Tensor, pair: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out = self.unet(self.folded(x, pair), torch.zeros(len(x), dtype=torch.long, device=x.device)).sample
        return self.unfolded(out, x)


def unet_of(prior: DDPM) -> UNet2DModel:
    """The prior's network. Raises UserError for one that no editor can start from."""
    network = prior.network.network if isinstance(prior.network, Compiled | ForwardPasses) else prior.network
    if not isinstance(network, UNet2DModel):
        raise UserError(f"an editor starts from a UNet2DModel of diffusers, and this prior's network is {type(network).__name__}")
    return network


class Editor:
    """A trained drawing, the prior that tidies it, and for which pairs of classes. compiled: passes are ONNX Runtime's."""

    def __init__(self, drawing: Drawing, prior: DDPM, pairs: Sequence[Pair], bounds: Bounds, compiled: bool = False) -> None:
        self.drawing, self.prior, self.pairs, self.bounds = drawing, prior, tuple(pairs), bounds
        self._unet: nn.Module = Compiled(drawing.unet) if compiled else drawing.unet

    def knows(self, source: Tensor, target: Tensor) -> Tensor:
        """Which of these pairs (N,) of class ids it proposes for, (N,) bool."""
        return pair_of(self.pairs, source, target) >= 0

    @torch.no_grad()
    def propose(self, x: Tensor, source: Tensor, target: Tensor) -> Proposal:
        """Counterfactuals of x (B, 3, H, W) in [-1, 1], of pairs that it knows: one pass of its own, one of the prior."""
        z = self.drawing.folded(x, pair_of(self.pairs, source, target))
        out = self._unet(z, torch.zeros(len(x), dtype=torch.long, device=x.device))
        guided, null, logits = self.drawing.unfolded(out if isinstance(out, Tensor) else out.sample, x)
        inside = logits > 0
        return Proposal(self._tidied_inside(guided, inside, x), inside.to(x), torch.where(inside, null, x))

    @torch.no_grad()
    def null(self, proposal: Proposal, x: Tensor) -> Tensor:
        """What the same way of drawing makes of x (B, 3, H, W) without the classifier's guidance, in the same mask."""
        return self._tidied_inside(proposal.without, proposal.mask > 0, x)

    def _tidied_inside(self, drawn: Tensor, inside: Tensor, x: Tensor) -> Tensor:
        return torch.where(inside, tidied(self.prior, torch.where(inside, drawn, x)), x)

    def plausible(self, proposal: Proposal, x: Tensor) -> Tensor:
        """Which proposals change about as much as the examples did, (B,) bool."""
        share, far = proposal.mask.flatten(1).mean(1), _far(proposal.x_cf, x)
        return (share >= self.bounds.least) & (share <= self.bounds.most) & (far <= self.bounds.farthest)


def _far(x_cf: Tensor, x: Tensor) -> Tensor:
    return (x_cf - x).abs().flatten(1).mean(1)


@torch.no_grad()
def tidied(prior: DDPM, x: Tensor) -> Tensor:
    """x (B, 3, H, W) as the prior draws it when it takes it for an image with a little noise: without what looks like noise."""
    t = int((prior.alphas_cumprod < TIDIED).nonzero()[0])
    return prior.step(x * float(prior.alphas_cumprod[t]) ** 0.5, t).x0.clamp(-1, 1)


def changed_by_guidance(guided: Tensor, null: Tensor) -> Tensor:
    """Where the classifier's guidance moved the image, (N, 1, H, W) of 0 and 1, with what is around it."""
    apart = (guided - null).abs().amax(1, keepdim=True)
    moved = apart > MOVED * apart.flatten(1).amax(1)[:, None, None, None]
    return max_pool2d(moved.to(guided), DILATION, 1, DILATION // 2)


def pair_of(pairs: Sequence[Pair], source: Tensor, target: Tensor) -> Tensor:
    """Which of the pairs each of these is, (N,); -1: none of them."""
    found = torch.full_like(target, -1)
    for place, (a, b) in enumerate(pairs):
        found[(source == a) & (target == b)] = place
    return found


def pairs_of(source: Tensor, target: Tensor) -> tuple[Pair, ...]:
    """The pairs of classes, (N,) ids each, that have enough examples."""
    pairs, counts = torch.stack([source, target], 1).unique(dim=0, return_counts=True)
    return tuple((int(a), int(b)) for (a, b), n in zip(pairs.tolist(), counts.tolist(), strict=True) if n >= FEWEST)


def train_editor(prior: DDPM, classifier: Classifier, examples: Examples, training: EditorTraining) -> Editor:
    """An editor of these examples, for the pairs of classes that have enough of them. The classifier gives gradients.

    Loss: likeness of both arms to the examples, mostly inside the mask; where the mask is; a margin of the target's logit. The
    classifier sees the drawing tidied by the prior, and through noise: a change of class survives both, and a pattern that fools
    this classifier alone does not. The gradient passes the tidying as if it were not there. The same prior, classifier, examples
    and settings give the same weights on one machine. Raises UserError without any pair.
    """
    pairs = pairs_of(examples.source, examples.target)
    if not pairs:
        raise UserError(f"no pair of classes has {FEWEST} examples to train an editor on")
    drawing = Drawing(prior, len(pairs), (examples.x.shape[-2], examples.x.shape[-1])).train().requires_grad_(True)
    pair = pair_of(pairs, examples.source, examples.target)
    examples, pair = examples.of(pair >= 0), pair[pair >= 0]
    masks = changed_by_guidance(examples.guided, examples.null)
    optimizer = torch.optim.AdamW(drawing.groups(), weight_decay=0.0, fused=True)
    chance = torch.Generator().manual_seed(derived_seed("editor", training.seed))
    for step, rows in enumerate(_shuffled(len(pair), training.steps * training.batch, chance).split(training.batch)):
        rate = training.learning_rate * _risen_and_fallen(step, training.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["times"]
        batch, mask = examples.of(rows), masks[rows]
        guided, null, logits = drawing(batch.x, pair[rows])
        weight = AS_IN_MASK * (KEPT + mask)
        alike = (weight * (guided - batch.guided).abs()).mean() + NULLS * (weight * (null - batch.null).abs()).mean()
        where = binary_cross_entropy_with_logits(logits, mask)
        soft = logits.sigmoid()
        drawn = batch.x + soft * (guided - batch.x)
        seen = batch.x + soft * (drawn + (tidied(prior, drawn.detach()) - drawn).detach() - batch.x)
        answer = classifier(seen + training.noise * torch.randn(seen.shape, generator=chance).to(seen))
        flips = relu(training.margin - _margin(answer, batch.target)).mean()
        descend(alike + where + training.flip * flips, optimizer, drawing)
    return Editor(drawing.eval().requires_grad_(False), prior, pairs, _bounds(examples, masks))


def _bounds(examples: Examples, masks: Tensor) -> Bounds:
    """How much examples change; how sure the classifier is of all but the least sure of them."""
    shares, far = masks.flatten(1).mean(1), _far(examples.guided, examples.x)
    sure = examples.p_target.quantile(UNSURE)
    return Bounds(float(shares.min()) / SLACK, float(shares.max()) * SLACK, float(far.max()) * SLACK, float(sure))


def _risen_and_fallen(step: int, steps: int) -> float:
    """Share of the learning rate: a rise over the first tenth, then a root down to 0. So few steps cannot afford a cosine's."""
    return min(1.0, (step + 1) / max(1, steps // 10)) * (1 - step / steps) ** 0.5


def _shuffled(n: int, wanted: int, chance: torch.Generator) -> Tensor:
    """So many positions of n, every one as often as any other."""
    return torch.cat([torch.randperm(n, generator=chance) for _ in range(-(-wanted // n))])[:wanted]


def _margin(logits: Tensor, target: Tensor) -> Tensor:
    """By how much the target's logit exceeds all others, (B,)."""
    others = logits.scatter(1, target[:, None], -torch.inf).amax(1)
    return logits.gather(1, target[:, None])[:, 0] - others


def save_editor(editor: Editor, training: EditorTraining, path: Path) -> Path:
    """Write it to a .safetensors file, whole or not at all; `load_editor` needs the prior besides."""
    facts: Facts = {"pairs": list(editor.pairs), "bounds": list(editor.bounds), "training": training.model_dump()}
    return save_network(path, editor.drawing, facts)


def load_editor(path: Path, prior: DDPM, size: tuple[int, int], compiled: bool = False) -> Editor:
    """The frozen editor of this prior and of images of this size (height, width), from its file, where the prior is.

    Raises FileNotFoundError, or UserError naming what does not fit.
    """
    state, facts = read_state_dict(path), read_facts(path)
    drawing = Drawing(prior, len(facts["pairs"]), size)
    fit(drawing, state, path, "an editor of this prior")
    return Editor(drawing.eval().requires_grad_(False), prior, facts["pairs"], Bounds(*facts["bounds"]), compiled)
