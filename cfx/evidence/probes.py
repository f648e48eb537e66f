"""Probes: one property of the image itself moved, down and up, and the classifier asked again. An intervention without a model.

Doses come from the data: each image is moved to the 10th and to the 90th percentile that the images have of that property, as far
as a photographer would go. What the classifier then answers otherwise is what that property does to it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import rankdata, t
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from cfx.evidence.paired import Answer, Effect, Floats, Images, discoveries, paired_effects
from cfx.evidence.properties import PROPERTIES, RIM, Pixels, property_table
from cfx.random import derived_seed

LEVELS = (0.0, 0.3, 1.0)  # strengths at which a probe's dose is measured, each way
MEASURED = 6  # images on which it is measured
FIXED = 0.15  # strength where the images do not vary in the property
LOW, HIGH = 0.1, 0.9  # the quantiles of the data that images are moved to
MARGIN = 0.1  # of P: what moves the answer by less matters to nobody
LAYOUT = frozenset(  # where subject and light are: a mark in a corner has edges and brightness that are measured with theirs
    {"subject_x", "subject_y", "subject_scale", "subject_tilt", "light_x", "light_y", "asymmetry"}
)
DRAGGED = 0.5  # standard deviations of the images from which on a dose has moved another property too
ASSOCIATED = 0.05  # share of the associations found that may be false


class Probe(NamedTuple):
    """`change(x, strength)`: x (C, H, W) uint8 with strength in [-1, 1]; 0 leaves it, 1 is as far as a photographer would go."""

    change: Callable[[Tensor, float], Tensor]
    downwards: bool = True  # False: the property cannot be taken away (noise, compression)


def _in_bytes(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8)


def _coordinates(x: Tensor) -> tuple[Tensor, Tensor]:
    """x and y of every pixel in half sides from the centre: (1, W), (H, 1)."""
    return torch.linspace(-1, 1, x.shape[2])[None, :], torch.linspace(-1, 1, x.shape[1])[:, None]


def _gains(red: float, green: float, blue: float) -> Callable[[Tensor, float], Tensor]:
    """Channels times 2 to the power of these, strength 1. A grey image has no cast."""
    powers = torch.tensor([red, green, blue])[:, None, None]
    return lambda x, strength: _in_bytes(x * 2 ** (powers * strength)) if len(x) == 3 else x


def _sharper(x: Tensor, strength: float) -> Tensor:
    if strength >= 0:
        return v2.adjust_sharpness(x, 1 + 4 * strength)
    return v2.gaussian_blur(x, [9, 9], [-1.5 * strength + 1e-3] * 2)


def _grained(x: Tensor, strength: float) -> Tensor:
    """The image's own pixels seed its grain."""
    chance = torch.Generator().manual_seed(derived_seed("grain", x.numpy().tobytes()))
    return _in_bytes(x + 20 * strength * torch.randn(x.shape, generator=chance))


def _compressed(x: Tensor, strength: float) -> Tensor:
    """JPEG at quality 95 (strength 0) to 8 (1). With Pillow: torchvision's encoder is on its way out."""
    file, pixels = io.BytesIO(), x.permute(1, 2, 0).numpy()
    Image.fromarray(pixels[..., 0] if len(x) == 1 else pixels).save(file, "JPEG", quality=round(95 * (8 / 95) ** strength))
    return torch.from_numpy(np.array(Image.open(file)).reshape(pixels.shape)).permute(2, 0, 1)


def _bordered(x: Tensor, strength: float) -> Tensor:
    rim = max(1, round(min(x.shape[1:]) * RIM))
    changed = _in_bytes(x + 160.0 * strength)
    changed[:, rim:-rim, rim:-rim] = x[:, rim:-rim, rim:-rim]
    return changed


def _vignetted(x: Tensor, strength: float) -> Tensor:
    across, down = _coordinates(x)
    return _in_bytes(x * (1 - 0.3 * strength * (across**2 + down**2)))


def _lit(axis: int) -> Callable[[Tensor, float], Tensor]:
    return lambda x, strength: _in_bytes(x * (1 + 0.4 * strength * _coordinates(x)[axis]))


def _moved(right: float = 0, down: float = 0, zoom: float = 0, degrees: float = 0) -> Callable[[Tensor, float], Tensor]:
    """Shift (shares of the side), zoom and turn (clockwise), strength 1; what comes in from outside repeats the border."""

    def change(x: Tensor, strength: float) -> Tensor:
        height, width = x.shape[1:]
        pad = max(height, width) // 4
        moved = v2.affine(
            v2.pad(x, [pad] * 4, padding_mode="edge"),
            angle=degrees * strength,
            translate=[right * strength * width, down * strength * height],
            scale=1 + zoom * strength,
            shear=[0.0, 0.0],
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        return moved[:, pad : pad + height, pad : pad + width]

    return change


PROBES: Mapping[str, Probe] = MappingProxyType(  # by the property that each moves
    {
        "brightness": Probe(lambda x, s: v2.adjust_brightness(x, 2 ** (0.5 * s))),
        "contrast": Probe(lambda x, s: v2.adjust_contrast(x, 2**s)),
        "gamma": Probe(lambda x, s: v2.adjust_gamma(x, 2 ** (0.8 * s))),
        "saturation": Probe(lambda x, s: v2.adjust_saturation(x, 1 + s) if len(x) == 3 else x),
        "warmth": Probe(_gains(0.25, 0, -0.25)),
        "greenness": Probe(_gains(-0.1, 0.2, -0.1)),
        "sharpness": Probe(_sharper),
        "noise": Probe(_grained, downwards=False),
        "compression": Probe(_compressed, downwards=False),
        "border": Probe(_bordered),
        "vignette": Probe(_vignetted),
        "light_x": Probe(_lit(0)),
        "light_y": Probe(_lit(1)),
        "subject_x": Probe(_moved(right=0.05)),
        "subject_y": Probe(_moved(down=0.05)),
        "subject_scale": Probe(_moved(zoom=0.1)),
        "subject_tilt": Probe(_moved(degrees=6)),
    }
)
MIRROR = "mirror"  # has no dose: left becomes right


class Doses(NamedTuple):
    """What a probe is set to for the images at hand, and what it then moves."""

    strengths: Floats  # (2, N): down (0 or below), up
    counted: NDArray[np.bool_]  # (N,), images that it takes at least half of the way from low to high
    in_data: bool
    moves: dict[str, float]  # every property that the way from down to up moves: standard deviations of the images


class Probed(NamedTuple):
    """The answers to a probe: P(class) (N,) moved down and up. For `mirror` down is the image as it is, up is mirrored."""

    probe: str
    doses: Doses
    down: Floats
    up: Floats


class Finding(NamedTuple):
    """What one property does to a classifier.

    effect: of the way from low to high, P(class); down and up: of either dose against the image as it is. size: mean |change|.
    association: of the property with the answers on the images as they are (rank correlation). kind: "relies on", "fragile" or ""
    (neither). through: the property that explains the same answers better, "" if this one does itself. tied: the properties that
    these images cannot tell it from. moves: other properties that the way from low to high moved, in standard deviations of the
    images.
    """

    property: str
    effect: Effect
    down: Effect
    up: Effect
    size: float
    in_data: bool
    association: float
    association_p: float
    kind: str
    through: str
    tied: tuple[str, ...]
    moves: dict[str, float]


def probed(images: Images, probe: str, strength: Floats) -> Images:
    """The images (N, H, W, C) uint8 with a probe's strengths (N,) applied; strength 0 leaves an image as it is, bit by bit."""
    if probe == MIRROR:
        return images[:, :, ::-1]
    change = PROBES[probe].change
    return np.stack([_changed(image, change, float(s)) if s else image for image, s in zip(images, strength, strict=True)])


def _changed(image: Pixels, change: Callable[[Tensor, float], Tensor], strength: float) -> Pixels:
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).contiguous()
    return np.ascontiguousarray(change(x, strength).permute(1, 2, 0).numpy())


def doses(images: Images, table: Floats, probe: str) -> Doses:
    """How strong a probe must be for each image; table: `property_table(images)`, (N, P).

    The property's mean shift is measured on MEASURED images at LEVELS and inverted. Where less than FIXED would span the data,
    the images do not vary in it: all are moved by FIXED, and in_data is False.
    """
    column = list(PROPERTIES).index(probe)
    chosen = np.linspace(0, len(images) - 1, min(MEASURED, len(images))).astype(int)
    levels = np.array([-level for level in LEVELS[:0:-1]] * PROBES[probe].downwards + list(LEVELS))
    shifts = np.array([_shift(images[chosen], table[chosen], probe, level) for level in levels])  # (L, P)
    spread = table.std(0)
    zero = list(levels).index(0.0)
    curve = np.concatenate(
        [
            -np.maximum.accumulate(-shifts[: zero + 1, column][::-1])[::-1],
            np.maximum.accumulate(shifts[zero + 1 :, column].clip(0)),
        ]
    )
    curve = curve + 1e-12 * (np.arange(len(curve)) - zero)  # rising, and 0 at strength 0
    low, high = np.quantile(table[:, column], (LOW, HIGH))
    span = np.interp(high - low, curve, levels)
    counted = np.ones(len(images), np.bool_)
    if in_data := bool(span >= FIXED):
        wanted = np.array([np.minimum(low - table[:, column], 0), np.maximum(high - table[:, column], 0)])
        strengths = np.interp(wanted, curve, levels)
        counted = np.ptp(wanted * [[PROBES[probe].downwards], [1]], axis=0) >= (high - low) / 2
    else:
        strengths = np.array([np.full(len(images), max(-FIXED, levels[0])), np.full(len(images), FIXED)])
    moved = _at(strengths[1].mean(), levels, shifts) - _at(strengths[0].mean(), levels, shifts)
    return Doses(strengths, counted, in_data, dict(zip(PROPERTIES, (moved / (spread + 1e-9)).tolist(), strict=True)))


def _shift(images: Images, table: Floats, probe: str, level: float) -> Floats:
    if level == 0:
        return np.zeros(table.shape[1])
    return (property_table(probed(images, probe, np.full(len(images), level))) - table).mean(0)


def _at(level: float, levels: Floats, shifts: Floats) -> Floats:
    return np.array([np.interp(level, levels, column) for column in shifts.T])


def ask(answer: Answer, images: Images, before: Floats, probe: str, at: Doses) -> Probed:
    """Two queries an image at most: none where a dose leaves it as it is. before: the answers (N,) to the images."""
    if probe == MIRROR:
        return Probed(probe, at, before, answer(probed(images, probe, before)))
    down, up = (_answers(answer, images, before, probe, strength) for strength in at.strengths)
    return Probed(probe, at, down, up)


def _answers(answer: Answer, images: Images, before: Floats, probe: str, strength: Floats) -> Floats:
    after, moved = before.copy(), strength != 0
    if moved.any():
        after[moved] = answer(probed(images[moved], probe, strength[moved]))
    return after


def queries(n: int) -> int:
    """The most queries that all probes of n images take.

    Examples:
        >>> queries(96)
        3168
    """
    return n * (1 + sum(1 + probe.downwards for probe in PROBES.values()))


def probe_all(answer: Answer, images: Images, before: Floats, table: Floats) -> list[Probed]:
    """Every probe, and the mirror, asked of images (N, H, W, C) uint8 whose answers are `before` (N,)."""
    tried = [ask(answer, images, before, probe, doses(images, table, probe)) for probe in PROBES]
    return [
        *tried,
        ask(answer, images, before, MIRROR, Doses(np.zeros((2, len(images))), np.ones(len(images), np.bool_), False, {})),
    ]


def findings(
    tried: Sequence[Probed],
    before: Floats,
    table: Floats,
    names: Floats | None = None,
    others: Sequence[float] = (),
    labels: Floats | None = None,
    marks: Floats | None = None,
) -> list[Finding]:
    """What the probes found, strongest first. names: named attributes (N, A); others: p-values of the run's other claims, of one
    family with these; labels: (N,) of 0 and 1, where the images have them; marks: (N, M) of 0 and 1, which images carry
    something that decides in a corner.

    *relies on*: the property varies in the images; from low to high the answer moves in one direction by more than MARGIN and
    not by chance; and it is associated with the answers as they are, with the same sign. Both by Benjamini-Hochberg: a network
    that is fragile to many properties would otherwise be accused of one that goes with its answers by chance.
    *fragile*: the answer moves by more than MARGIN on average, one way or the other, without that.
    An effect is the mean over the images that the probe takes far enough: what is a JPEG already is made no more one.
    """
    changes = np.stack([np.where(one.doses.counted, one.up - one.down, np.nan) for one in tried], axis=1)
    lower, upper = (
        np.stack([answers - before for answers in side], axis=1) for side in ([o.down for o in tried], [o.up for o in tried])
    )
    effects, downs, ups = paired_effects(changes), paired_effects(lower), paired_effects(upper)
    stands = discoveries([effect.p for effect in effects] + list(others))[: len(effects)]
    sizes = np.maximum(np.abs(lower), np.abs(upper)).mean(0)
    given = [] if labels is None or np.ptp(labels) == 0 else [labels]
    shown = [] if marks is None else list(marks.T)
    associations = [association(one, before, table, names, [*given, *(shown if one.probe in LAYOUT else ())]) for one in tried]
    goes = discoveries([p for _, p in associations], ASSOCIATED)
    found = []
    for one, effect, down, up, size, real, (rho, p), linked in zip(
        tried, effects, downs, ups, sizes, stands, associations, goes, strict=True
    ):
        relies = one.doses.in_data and real and abs(effect.mean) > MARGIN and rho * effect.mean > 0 and bool(linked)
        kind = "relies on" if relies else "fragile" if size > MARGIN else ""
        dragged = {name: sd for name, sd in one.doses.moves.items() if name != one.probe and abs(sd) > DRAGGED}
        found.append(Finding(one.probe, effect, down, up, float(size), one.doses.in_data, rho, p, kind, "", (), dragged))
    return _attributed(found, before, table)


def association(
    one: Probed, before: Floats, table: Floats, names: Floats | None = None, given: Sequence[Floats] = ()
) -> tuple[float, float]:
    """Correlation of a property with the answers on the images as they are, by ranks, and its p-value.

    Once as it is; once cleared of the named attributes and of the properties that the probe's dose leaves alone, because content
    has colours and edges of its own. The clearer of the two counts, and its p-value is doubled for the choice. Where something is
    given, columns (N,), the property must still go with the answers, by the same two: the less clear of that and this counts. The
    label is given: coats hang lower than pullovers, say, and a classifier that knows them apart answers as if it went by that. Of
    where subject and light are, so is who carries a mark in a corner, which is measured with them.
    """
    if one.probe not in PROPERTIES:
        return 0.0, 1.0
    values = table[:, list(PROPERTIES).index(one.probe)]
    apart = [i for i, name in enumerate(PROPERTIES) if name != one.probe and abs(one.doses.moves[name]) <= DRAGGED]
    controls = np.column_stack([table[:, apart], *([names] if names is not None else [])])

    def clearer(held: Floats) -> tuple[float, float]:
        plain, cleared = (partial_correlation(values, before, np.column_stack([held, more])) for more in (held[:, :0], controls))
        rho, p = min((plain, cleared), key=lambda result: result[1])
        return rho, min(1.0, 2 * p)

    chosen = clearer(controls[:, :0])
    return max(chosen, clearer(np.column_stack(given)), key=lambda result: result[1]) if given else chosen


def partial_correlation(a: Floats, b: Floats, controls: Floats) -> tuple[float, float]:
    """Pearson's, of the ranks of a and b (N,) cleared of the ranks of controls (N, K) by least squares, with its p-value.

    (0, 1) where nothing is left to correlate, or with fewer than ten images beyond the controls.
    """
    freedom = len(a) - 2 - controls.shape[1]
    if freedom < 10 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0, 1.0
    design = np.column_stack([np.ones(len(a)), *(rankdata(column) for column in controls.T)])
    left = [values - design @ np.linalg.lstsq(design, values, rcond=None)[0] for values in (rankdata(a), rankdata(b))]
    norms = np.linalg.norm(left[0]) * np.linalg.norm(left[1])
    if norms < 1e-6 * len(a):
        return 0.0, 1.0
    r = float(np.clip(left[0] @ left[1] / norms, -1, 1))
    return r, float(2 * t.sf(abs(r) * np.sqrt(freedom / max(1 - r * r, 1e-12)), freedom))


def _attributed(found: list[Finding], before: Floats, table: Floats) -> list[Finding]:
    """Several probes move one property, and one property drags others along; the answers say which of them it is.

    Of the properties relied on, the one with the closest association comes first. Another stands beside it only if it is still
    associated, in the same direction, with what the first ones leave of the answers (ranks, least squares). If it is not, and
    the first is not associated with what it leaves either, the images cannot tell the two apart, and both are named: on a black
    background an image with less brightness has less contrast, too. Otherwise it acts through the first.
    """
    relied = sorted((f for f in found if f.kind == "relies on"), key=lambda f: -abs(f.association))
    columns = list(PROPERTIES)
    leaders: list[Finding] = []
    through: dict[str, str] = {}
    alike: list[str] = []  # the first and those that it is not told from

    def stands_beside(one: Finding, *others: Finding) -> bool:
        given = table[:, [columns.index(other.property) for other in others]]
        rho, p = partial_correlation(table[:, columns.index(one.property)], before, given)
        return p < ASSOCIATED / len(PROBES) and rho * one.effect.mean > 0

    for one in relied:
        if not leaders or stands_beside(one, *leaders):
            leaders.append(one)
        elif stands_beside(leaders[0], one):
            through[one.property] = leaders[0].property
        else:
            alike = [*(alike or [leaders[0].property]), one.property]
    order = {"relies on": 0, "fragile": 1, "": 2}
    tied = {name: tuple(other for other in alike if other != name) for name in alike}
    named = [one._replace(through=through.get(one.property, ""), tied=tied.get(one.property, ())) for one in found]
    return sorted(named, key=lambda f: (order[f.kind], bool(f.through), -max(abs(f.effect.mean), f.size)))
