"""A generator in one .safetensors file, as ComfyUI and the makers publish them, becomes a folder: by diffusers' own conversion.

diffusers converts what it recognises and says nothing of the rest. Here a weight that the file lacks is named, and one that the
network has no place for is, too. Its configs and tokenizers come from a folder, so that nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from torch import Tensor, nn

from cfx.diffusion.families import Family
from cfx.diffusion.pipeline_index import Index, read_index
from cfx.diffusion.pipeline_parts import quietly, read_network, read_text_encoder
from cfx.errors import UserError
from cfx.weights_file import kind_of

NETWORK = "model.diffusion_model."  # before the names of the network's weights
OTHERS = {  # before those of other parts
    "autoencoder": ("first_stage_model.", "vae."),
    "text": ("cond_stage_model.", "conditioner.", "text_encoders."),
    "average": ("model_ema.",),
}
T5 = "T5EncoderModel"  # which files of SD3 have or lack, and FLUX's lack
BARE = ("double_blocks.", "joint_blocks.", "input_blocks.0.0.")  # of a network alone, as FLUX is published
QUANTISED = ("scaled_fp8", ".scale_weight", ".weight_scale", ".absmax")
GUIDED = "input_blocks."  # guided-diffusion's names, which are those of a bare UNet: `cfx.diffusion.guided` reads them
CONFIGS = '--include "*.json" "*.txt" "*.model"'


class Content(NamedTuple):
    """The names of a file's weights, without their values."""

    shapes: Mapping[str, tuple[int, ...]]
    dtype: torch.dtype  # of most of them

    def sized(self, *prefixes: str) -> int:
        """How many numbers stand under these prefixes."""
        return sum(torch.Size(shape).numel() for name, shape in self.shapes.items() if name.startswith(prefixes))

    @property
    def network(self) -> int:
        """How many numbers the network has."""
        rest = tuple(prefix for found in OTHERS.values() for prefix in found)
        return self.sized(NETWORK) or self.sized("") - self.sized(*rest)


def is_single_file(path: Path) -> bool:
    """Whether this is a generator in one safetensors file. Raises as `kind_of` does."""
    if kind_of(path) != "safetensors":
        return False
    names = content_of(path).shapes
    prefixes = (NETWORK, *(prefix for found in OTHERS.values() for prefix in found), *(name for name in BARE if name != BARE[-1]))
    return any(name.startswith(prefixes) for name in names)


def content_of(path: Path) -> Content:
    """What is in a safetensors file, from its header."""
    with safetensors.safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
        largest = max(shapes, key=lambda name: torch.Size(shapes[name]).numel())
        kinds = {"F16": torch.float16, "BF16": torch.bfloat16}
        return Content(shapes, kinds.get(slices[largest].get_dtype(), torch.float32))


def import_single_file(path: Path, config: Path | None, folder: Path) -> str:
    """Write the generator in this file as a folder, and return the name of its pipeline class.

    config: a folder of the same pipeline in diffusers' format: model_index.json, configs and tokenizers; and the weights of the
    parts that the file lacks. Raises FileNotFoundError, saying how to get it, without one; UserError naming weights that are
    missing, and for a file that is quantised, of another pipeline, or of one that cannot be a prior.
    """
    import diffusers

    content = content_of(path)
    if quantised := next((name for name in content.shapes if name.endswith(QUANTISED)), None):
        raise UserError(f"{path} is quantised ({quantised}); import the file in float16, bfloat16 or float32")
    if config is None:
        raise FileNotFoundError(_without_config(path, content))
    index = read_index(config)
    kind = getattr(diffusers, index.name)
    if not hasattr(kind, "from_single_file"):
        raise UserError(f"{path}: diffusers reads no {index.name} from one file; give a folder in its format")
    given: dict[str, Any] = {"safety_checker": None, "feature_extractor": None} if "StableDiffusionPipeline" in index.name else {}
    left_out = [text for text in index.family.optional if text not in index.parts]
    given |= dict.fromkeys([*left_out, *(index.family.text[text] for text in left_out)])
    with quietly(), _missing_is_nan():
        given |= {part: _from_config(index, part, path) for part in _elsewhere(index, content)}
        try:
            pipeline = kind.from_single_file(
                str(path), config=str(config), local_files_only=True, low_cpu_mem_usage=False, **given
            )
        except (OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError) as error:
            why = " ".join(str(error).split())[:300]
            raise UserError(f"{path} is not read as the {index.name} of {config}: {why}") from error
    _check(pipeline, content, index.family, path, config)
    with quietly():
        pipeline.to(content.dtype)
        pipeline.save_pretrained(folder)
    return index.name


def _without_config(path: Path, content: Content) -> str:
    from diffusers.loaders import single_file_utils

    empty = {name: torch.empty(shape, device="meta") for name, shape in content.shapes.items()}
    known = single_file_utils.fetch_diffusers_config(empty)["pretrained_model_name_or_path"]
    return (
        f"{path} holds weights alone: its configs and tokenizers must come from a folder. By its weights it is like {known}; get "
        f"them with `hf download {known} {CONFIGS} --local-dir CONFIG`, and give `--config CONFIG`"
    )


def _elsewhere(index: Index, content: Content) -> list[str]:
    """The parts of the pipeline that the file does not hold."""
    family, found = index.family, []
    if family.autoencoder is not None and not content.sized(*OTHERS["autoencoder"]):
        found.append(family.autoencoder)
    has_text, has_t5 = content.sized(*OTHERS["text"]), any(".t5xxl." in name for name in content.shapes)
    for part in family.text:
        if part in index.parts and not (has_t5 if index.parts[part] == T5 else has_text):
            found.append(part)
    return found


def _from_config(index: Index, part: str, path: Path) -> nn.Module:
    read = read_text_encoder if part in index.family.text else read_network
    try:
        return read(index.part(part), index.parts[part])
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} has no {part}, and neither has the folder of --config: {error}") from error


def _check(pipeline: Any, content: Content, family: Family, path: Path, config: Path) -> None:
    """Raises UserError for weights that were not in the file, and for a network that is smaller than the file's."""
    wrong = [
        f"{part}.{name}"
        for part, network in pipeline.components.items()
        if isinstance(network, nn.Module)
        for name, value in network.named_parameters()
        if value.is_meta or not value.isfinite().all()
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"{path} lacks {', '.join(wrong[:3])}{more}, or they are not finite; it is damaged, or not as {config} says"
        )
    network: nn.Module = getattr(pipeline, family.part)
    size = sum(value.numel() for value in network.state_dict().values())
    if size != content.network:
        raise UserError(
            f"{path} holds {content.network:,} numbers of a {family.part}, but that of {config} has {size:,}: it is of another "
            "model; give the configs of the one that it was grown from"
        )


@contextmanager
def _missing_is_nan() -> Iterator[None]:
    """Networks that are filled from a part of their weights have NaN in place of the others, instead of chance."""
    whole = nn.Module.load_state_dict

    def load(self: nn.Module, state: Mapping[str, Tensor], *args: Any, **settings: Any) -> Any:
        with torch.no_grad():
            for value in self.parameters():
                if not value.is_meta:
                    value.fill_(torch.nan)
        return whole(self, state, *args, **settings)

    nn.Module.load_state_dict = load  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        nn.Module.load_state_dict = whole  # type: ignore[method-assign]
