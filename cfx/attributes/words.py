"""An oracle by words: an image-text model (CLIP, SigLIP) says which of two prompts an image is nearer to. Needs the extra `hf`.

An attribute is a prompt of its presence and one of its absence; its log-odds are the difference of the two similarities, times
the model's own scale, as in zero-shot classification between the two (Radford et al. 2021, arXiv:2103.00020, section 3.1.4;
SigLIP, Zhai et al. 2023, arXiv:2303.15343, whose bias cancels). Several prompts of one side are averaged after normalisation.
Such scores are not calibrated from one attribute to the next, so each has a slope and an offset (`cfx.attributes.calibration`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from pydantic import Discriminator, Field, Tag, model_validator
from torch import Tensor, nn

from cfx.attributes.calibration import Line
from cfx.attributes.oracle import Oracle, OracleConfig
from cfx.attributes.vocabulary import Words
from cfx.checkpoint import Facts
from cfx.classifiers.hugging_face import (
    CONFIG,
    PREPROCESSOR,
    SAFE,
    as_users,
    check_loaded,
    check_weights,
    quiet,
    transformers_package,
)
from cfx.classifiers.network import BUNDLED, Network, NetworkConfig
from cfx.classifiers.processor import Array, seen_through
from cfx.errors import UserError
from cfx.paths import ModelName
from cfx.types import Config

NEEDED = ("get_image_features", "get_text_features")  # what an image-text model has
RESAMPLED = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, of what torch can do
TEXT_PARTS = ("text_model", "text_projection")  # not needed once the prompts are embedded

Sides = tuple[Sequence[str], Sequence[str]]  # prompts of an attribute's presence, and of its absence


class WordsOracleConfig(Config):
    """An oracle without training: an image-text model and a pair of prompts an attribute."""

    words: Words = Field(
        description="`attribute: [positive, negative]`, each a prompt or a list of prompts to average; or a vocabulary: faces, "
        "animals, vehicles, skin-lesions, chest-xray, satellite, industrial-surface, or a YAML file of one's own"
    )
    model: ModelName = Field(
        description="a folder or hub id of CLIP or SigLIP in transformers' format; `portraits:words` comes with cfx"
    )
    calibration: dict[str, Line] | None = Field(
        None,
        description="slope and offset of each attribute's log-odds; default: found on a sample of the audited images, by the "
        "annotations of that name where the table has them, else by splitting the scores in two",
    )

    @model_validator(mode="after")
    def _of_its_words(self) -> WordsOracleConfig:
        if unknown := sorted(set(self.calibration or {}) - set(self.words)):
            raise UserError(f"calibration: {', '.join(unknown)} is not among the words ({', '.join(self.words)})")
        return self


def _kind(settings: object) -> str:
    by_words = "words" in settings if isinstance(settings, dict) else isinstance(settings, WordsOracleConfig)
    return "by_words" if by_words else "trained"


AnyOracle = Annotated[
    Annotated[OracleConfig, Tag("trained")] | Annotated[WordsOracleConfig, Tag("by_words")], Discriminator(_kind)
]


class WordsNetwork(nn.Module):
    """(B, 3, S, S), normalised as the model's processor does, to the log-odds (B, A) of the attributes.

    `head` holds the prompts: for each attribute the unit embedding of its presence less that of its absence, times the scale.
    """

    slope: Tensor  # (A,)
    offset: Tensor

    def __init__(self, model: nn.Module, directions: Tensor, bgr: bool = False) -> None:
        super().__init__()
        self.model, self.bgr = model, bgr
        self.head = nn.Linear(directions.shape[1], len(directions), bias=False)
        self.head.weight.data = directions.clone()
        self.register_buffer("slope", torch.ones(len(directions)))
        self.register_buffer("offset", torch.zeros(len(directions)))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, S, S), normalised, to log-odds (B, A)."""
        made: Any = self.model
        shown = unit(_features(made.get_image_features(pixel_values=x.flip(1) if self.bgr else x)))
        log_odds: Tensor = self.slope * self.head(shown) + self.offset
        return log_odds


class TwoTowers:
    """An image-text model, loaded: what an oracle by words is made of."""

    def __init__(self, model: Any, tokenizer: Any, facts: Facts, bgr: bool, name: str) -> None:
        self.model, self.tokenizer, self.facts, self.bgr, self.name = model, tokenizer, facts, bgr, name

    @torch.no_grad()
    def directions(self, words: Mapping[str, Sides]) -> Tensor:
        """(A, D): presence less absence of each attribute, times the model's scale."""
        scale = self.model.logit_scale.exp()
        return torch.stack([scale * (self.averaged(said) - self.averaged(denied)) for said, denied in words.values()]).float()

    def averaged(self, prompts: Sequence[str]) -> Tensor:
        """The unit embedding (D,) of an ensemble: the mean of the prompts' unit embeddings."""
        return unit(unit(_features(self.model.get_text_features(**self._tokens(prompts)))).mean(0))

    def _tokens(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        text = self.model.config.text_config
        most, masked = int(text.max_position_embeddings), not self.model.config.model_type.startswith("siglip")
        tokens = self.tokenizer(list(prompts), padding="max_length", max_length=most, return_tensors="pt")
        if tokens["input_ids"].shape[1] > most:
            longest = max(prompts, key=len)
            raise UserError(f"words: {self.name} reads {most} tokens, and {longest!r} has more; say it in fewer words")
        # SigLIP was trained on padded texts without a mask
        return {name: tokens[name] for name in ("input_ids", *(("attention_mask",) if masked else ()))}


def unit(embedded: Tensor) -> Tensor:
    """Embeddings (..., D) of length 1."""
    return embedded / embedded.norm(dim=-1, keepdim=True)


def load_words(config: WordsOracleConfig, device: torch.device | str = "cpu") -> Oracle:
    """The oracle, frozen. Raises ImportError without transformers, and UserError for a model that is not there, is no image-text
    model or whose weights are not whole, and for a prompt that it cannot read.

    Examples:
        >>> words = {"glasses": ["a person wearing glasses", "a person without glasses"]}
        >>> oracle = load_words(WordsOracleConfig(words=words, model="portraits:words"))
        >>> oracle.attributes, oracle(torch.zeros(2, 3, 64, 64)).shape
        (('glasses',), torch.Size([2, 1]))
    """
    towers = load_two_towers(config.model)
    module = WordsNetwork(towers.model, towers.directions(config.words), towers.bgr)
    for part in TEXT_PARTS:
        if hasattr(towers.model, part):
            setattr(towers.model, part, nn.Identity())
    network = Network(module, config.model, NetworkConfig(weights=Path(config.model)), towers.facts)
    network.eval().requires_grad_(False).to(device)
    oracle = Oracle(network, tuple(config.words))
    return calibrated(oracle, config.calibration or {})


def calibrated(oracle: Oracle, lines: Mapping[str, Line]) -> Oracle:
    """The oracle by words with these slopes and offsets by attribute, in place; attributes without one keep theirs."""
    module = oracle.network.module
    assert isinstance(module, WordsNetwork)
    for name, line in lines.items():
        position = oracle.attributes.index(name)
        module.slope[position], module.offset[position] = line.slope, line.offset
    return oracle


def scores_of(oracle: Oracle, x: Tensor) -> Tensor:
    """What an oracle by words says before its slopes and offsets: scores (B, A) of x (B, 3, H, W) in [-1, 1]."""
    module = oracle.network.module
    assert isinstance(module, WordsNetwork)
    return (oracle.logits(x) - module.offset) / module.slope


def load_two_towers(source: str) -> TwoTowers:
    """The model, its tokenizer and what its processor does, of a folder, a hub id or `portraits:words`. Raises as load_words."""
    transformers = transformers_package()
    where = _place(source)
    with quiet(transformers), _named(source):
        options: Any = {"trust_remote_code": False, "local_files_only": Path(where).is_dir()}
        config = transformers.AutoConfig.from_pretrained(where, **options)
        kind = transformers.MODEL_MAPPING.get(type(config), None)
        if kind is None or not all(hasattr(kind, name) for name in NEEDED):
            raise UserError(
                f"{source} holds a {type(config).__name__.removesuffix('Config')}, which is no image-text model; give one that "
                "embeds images and texts alike: CLIP or SigLIP"
            )
        model, loaded = transformers.AutoModel.from_pretrained(where, config=config, dtype=torch.float32, **SAFE, **options)
        if not hasattr(model, "logit_scale"):
            raise UserError(f"{source} has no scale of its similarities (logit_scale); give a CLIP or SigLIP")
        tokenizer = transformers.AutoTokenizer.from_pretrained(where, **options)
        facts, bgr = _seen(transformers.AutoImageProcessor.from_pretrained(where, **options), source)
    check_loaded(source, loaded)
    return TwoTowers(model.eval(), tokenizer, facts, bgr, source)


def _place(source: str) -> str:
    """A folder, checked, or a hub id. Raises UserError for a folder that lacks something."""
    if source.startswith(BUNDLED):
        folder = Path(str(files("cfx") / "weights" / "portraits" / source.removeprefix(BUNDLED)))
        if not (folder / CONFIG).is_file():
            raise UserError(f"model: cfx comes with no image-text model {source!r}; it has portraits:words")
        return str(folder)
    folder = Path(source)
    if not folder.is_dir():
        if folder.exists() or folder.is_absolute() or source.count("/") > 1:
            raise UserError(
                f"model: {source} is no folder; give a folder with {CONFIG}, or a hub id such as openai/clip-vit-base-patch32"
            )
        return source
    if missing := [name for name in (CONFIG, PREPROCESSOR) if not (folder / name).is_file()]:
        raise UserError(
            f"model: {source} has no {' and no '.join(missing)}; copy or download the whole folder, as "
            "`save_pretrained` of model, tokenizer and image processor writes it"
        )
    check_weights(folder, "AutoModel")
    return source


@contextmanager
def _named(source: str) -> Iterator[None]:
    """What cannot be loaded is named with the way out, which for a hub id is another machine."""
    try:
        with as_users(source):
            yield
    except UserError as error:
        if Path(source).is_dir() or source.startswith(BUNDLED) or not isinstance(error.__cause__, OSError):
            raise
        raise UserError(
            f"model: {source} is neither a folder nor in this machine's cache, and cannot be downloaded ({error.__cause__}); "
            f"where there is a network run `hf download {source}`, or copy its folder here and give that"
        ) from error


def _seen(processor: Any, source: str) -> tuple[Facts, bool]:
    """What the model sees of an image, as its processor does it."""

    def process(image: Image.Image) -> Array:
        made = processor(image, return_tensors="np")
        return np.asarray(made["pixel_values"][0], dtype=np.float64)

    try:
        seen = seen_through(process)
    except UserError as error:
        raise UserError(f"{source}: {error}; of SigLIP 2 take a model of fixed resolution, not NaFlex") from error
    resample = RESAMPLED.get(int(getattr(processor, "resample", None) or 2), "bicubic")
    return {
        "input_size": seen.input_size,
        "mean": seen.mean,
        "std": seen.std,
        "crop": seen.crop,
        "squeezes": seen.squeezes,
        "resample": resample,
    }, seen.bgr


def _features(answer: Any) -> Tensor:
    """Embeddings (B, D): a tensor until transformers 4, since then beside others."""
    features: Tensor = answer if isinstance(answer, Tensor) else answer.pooler_output
    return features
