"""A classifier that only answers: what it is shown, how its answers are read, and who keeps count.

Every black box, whatever carries its images, is a `BlackBox` around one function from prepared images to an array.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import interpolate

from cfx.classifiers.centre import LUMA, centre
from cfx.classifiers.class_names import ClassNames, few, twice
from cfx.errors import UserError
from cfx.masking import cut
from cfx.types import Config

Array = NDArray[Any]
SLACK = 1e-3  # how far probabilities may be from adding up to one: half-precision servers round
FLOOR = 1e-30  # a probability of 0 becomes this, so that its logarithm is finite


Side = Annotated[int, Field(ge=1)]


class Preprocessing(Config):
    """What a black box is shown. Colours in `range`, minus mean, divided by std: the defaults are plain RGB in [0, 1].

    An ONNX file says by its shape what it takes: of that, `size`, `layout`, `channels` and uint8 need not be set.
    """

    size: Side | tuple[Side, Side] | None = Field(
        None, description="pixels: the side of a square, or [height, width]; images of another size are resampled"
    )
    crop: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the side that is shown, its centre: 0.875 where production resizes to 256 and cuts out 224",
    )
    channels: Literal[1, 3] = Field(3, description="1: grey, the luma of RGB")
    order: Literal["rgb", "bgr"] = Field("rgb", description="of the channels; mean and std are in this order")
    range: tuple[float, float] = Field((0.0, 1.0), description="the values of black and white")
    mean: tuple[float, float, float] = Field((0.0, 0.0, 0.0), description="subtracted, in units of `range`")
    std: tuple[float, float, float] = Field((1.0, 1.0, 1.0), description="divides what is left")
    layout: Literal["nchw", "nhwc"] = Field("nchw", description="channels first, or last")
    dtype: Literal["float32", "uint8"] = Field("float32", description="uint8 needs range [0, 255], mean 0, std 1")

    @model_validator(mode="after")
    def _can_be_made(self) -> Preprocessing:
        if self.range[0] >= self.range[1] or min(self.std) <= 0:
            raise UserError(f"range {self.range} must rise and every std ({self.std}) be above 0")
        whole = (self.range, self.mean, self.std) == ((0, 255), (0, 0, 0), (1, 1, 1))
        if self.dtype == "uint8" and not whole:
            raise UserError("dtype uint8 is for whole pixel values: set `range: [0, 255]` and leave mean and std out")
        return self

    def prepare(self, x: Tensor) -> Array:
        """(B, 3, H, W) in [-1, 1] to the array that is sent, (B, C, h, w) or (B, h, w, C)."""
        x = centre(x, self.crop)
        size = self.size if self.size is None or isinstance(self.size, tuple) else (self.size, self.size)
        if size is not None and x.shape[-2:] != size:
            x = interpolate(x, size=size, mode="bilinear", antialias=True)
        low, high = self.range
        mean, std = (torch.tensor(values, device=x.device).view(3, 1, 1) for values in (self.mean, self.std))
        if self.channels == 1:
            luma = torch.tensor(LUMA, device=x.device).view(3, 1, 1)
            x, mean, std = ((values * luma).sum(-3, keepdim=True) for values in (x, mean, std))
        elif self.order == "bgr":
            x = x.flip(1)
        x = x * ((high - low) / 2 / std) + ((high + low) / 2 - mean) / std
        if self.layout == "nhwc":
            x = x.permute(0, 2, 3, 1)
        shown = x.round().clamp(0, 255).to(torch.uint8) if self.dtype == "uint8" else x.float()
        return shown.cpu().contiguous().numpy()


class Limits(Config):
    """How much and how fast a black box may be queried. Answers do not depend on it, so a run keeps its id when it changes."""

    budget: int | None = Field(None, ge=1, description="images that one audit may send, retries included; null: any number")
    batch: int = Field(16, ge=1, description="images a call")
    concurrency: int = Field(4, ge=1, description="calls at a time")
    timeout: float = Field(30.0, gt=0, description="seconds to wait for one answer")
    patience: float = Field(120.0, ge=0, description="seconds to go on retrying a call that fails, with growing pauses")


class BlackBoxConfig(Config):
    """What every black box declares."""

    classes: ClassNames = Field(
        description="names in the order of the answers: a list, a file with one a line (or JSON, as `id2label`), or `imagenet`"
    )
    answers: Literal["probabilities", "logits", "second"] = Field(
        "probabilities",
        description="what an image's answer is; second: one number, the probability of the second class; logits of two classes "
        "may be one number too, the log-odds of the second",
    )
    image: Preprocessing = Preprocessing()
    limits: Limits = Limits()

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, settings: object) -> object:
        """`picture`, as 0.1 called `image`. Works until 0.3."""
        if not isinstance(settings, dict) or "picture" not in settings:
            return settings
        if "image" in settings:
            raise UserError("`picture` is the old name of `image`, and both are set; leave `picture` out")
        warnings.warn("the classifier's setting `picture` is now `image`; rename it", DeprecationWarning, stacklevel=2)
        return {"image" if name == "picture" else name: value for name, value in settings.items()}

    @model_validator(mode="after")
    def _classes_differ(self) -> BlackBoxConfig:
        if wrong := twice(self.classes):
            raise UserError(wrong)
        if self.answers == "second" and len(self.classes) != 2:
            raise UserError(f"answers: second tells two classes apart, but there are {len(self.classes)}")
        return self


class Call(Protocol):
    """One call that is being made; its status is set before it ends."""

    status: str


class Ledger(Protocol):
    """Who keeps count of the calls and remembers the answers."""

    def call(self, images: int) -> AbstractContextManager[Call]:
        """Around one call that sends so many images; recorded before it is made. Raises UserError when the budget is spent."""
        ...

    def known(self, image: str) -> Array | None:
        """The probabilities (K,) of an image (`image_hash`) that was answered before, if it was."""
        ...

    def keep(self, answers: Mapping[str, Array]) -> None:
        """Remember probabilities (K,) by image."""
        ...


# A batch of prepared images (b, ...) to its answers (b, K), in one call that the ledger records.
Query = Callable[[Array, Ledger], object]


class BlackBox:
    """A `Classifier` without gradients: (B, 3, H, W) in [-1, 1] to log-probabilities (B, K) float32.

    An image is known by the SHA-256 of what would be sent; one that the ledger knows is not queried again. Answers are kept batch
    by batch, so that what was answered before a failure is not queried again either.
    """

    differentiable = False

    def __init__(
        self, name: str, config: BlackBoxConfig, query: Query, ledger: Ledger, fingerprint: str, side_by_side: int = 1
    ) -> None:
        self.name, self.config, self.classes, self.fingerprint = name, config, config.classes, fingerprint
        self._query, self._ledger = query, ledger
        self._threads = ThreadPoolExecutor(side_by_side, thread_name_prefix=name) if side_by_side > 1 else None

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] to log-probabilities (B, K) float32, on the device of x.

        Raises UserError, naming the black box, for an answer that cannot be used or when the budget is spent.
        """
        shown = self.config.image.prepare(x)
        names = [image_hash(image) for image in shown]
        rows = {name: row for row, name in enumerate(names)}  # each image once
        known = {name: answer for name in rows if (answer := self._ledger.known(name)) is not None}
        new, size = [name for name in rows if name not in known], self.config.limits.batch
        batches = [new[start : start + size] for start in range(0, len(new), size)]
        spread = map if self._threads is None else self._threads.map
        for answers in spread(lambda batch: self._answers(batch, shown[[rows[name] for name in batch]]), batches):
            known |= answers
        probabilities = torch.from_numpy(np.stack([known[name] for name in names]))
        return probabilities.clamp(min=FLOOR).log().float().to(x.device)

    @torch.no_grad()
    def anew(self, x: Tensor) -> Tensor:
        """Probabilities (B, K) of x (B, 3, H, W) in [-1, 1], queried again whatever is known; they are counted, and not kept.

        Raises as a call does.
        """
        shown = self.config.image.prepare(x)
        return torch.from_numpy(as_probabilities(self._query(shown, self._ledger), len(shown), self.config, self.name))

    def _answers(self, names: list[str], shown: Array) -> dict[str, Array]:
        found = as_probabilities(self._query(shown, self._ledger), len(shown), self.config, self.name)
        answers = dict(zip(names, found, strict=True))
        self._ledger.keep(answers)
        return answers


def image_hash(image: Array) -> str:
    """SHA-256 of one prepared image: its type, its shape, its values."""
    return hashlib.sha256(f"{image.dtype}{image.shape}\0".encode() + image.tobytes()).hexdigest()


def as_probabilities(answer: object, n: int, config: BlackBoxConfig, name: str) -> Array:
    """The answers to n images as probabilities (n, K) float64. Raises UserError naming what is wrong with them."""
    try:
        values = np.asarray(answer, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{name} answered something that is no table of numbers: {cut(str(error))}") from error
    wanted = (n, 1) if config.answers == "second" else (n, len(config.classes))
    alone = config.answers == "logits" and len(config.classes) == 2 and values.shape in ((n,), (n, 1))
    if alone:  # softmax of [0, l] is sigmoid(l)
        values = np.stack([np.zeros(n), values.reshape(n)], axis=1)
    elif values.shape == (n,) and config.answers == "second":
        values = values[:, None]
    if values.shape != wanted:
        raise UserError(
            f"{name} answered with shape {values.shape} to {n} images; {config.answers} of {few(config.classes)} "
            f"have shape {wanted}"
        )
    if not np.isfinite(values).all():
        raise UserError(f"{name} answered NaN or infinity; check its model, and `image`")
    if config.answers == "logits":
        if n > 1 and not alone and _are_probabilities(values):
            raise UserError(
                f"{name} answered ({_row(values[0])}) and {n - 1} more such rows, which are probabilities; set `answers: "
                "probabilities`, or they would be made into probabilities twice"
            )
        scores = np.exp(values - values.max(1, keepdims=True))
        return scores / scores.sum(1, keepdims=True)
    if config.answers == "second":
        values = np.concatenate([1 - values, values], axis=1)
    if not _are_probabilities(values):
        worst = values[np.abs(values.sum(1) - 1).argmax()]
        raise UserError(
            f"{name} answered ({_row(worst)}), which are not probabilities; if they are scores, set `answers: logits`"
        )
    return values.clip(0, 1) / values.clip(0, 1).sum(1, keepdims=True)


def _are_probabilities(values: Array) -> bool:
    """Whether every row (K,) lies in [0, 1] and adds up to one, but for rounding."""
    return bool(values.min() >= -SLACK and values.max() <= 1 + SLACK and np.abs(values.sum(1) - 1).max() <= SLACK)


def _row(values: Array) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
