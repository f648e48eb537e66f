"""Low-rank weights (LoRA) added to a pipeline's own when it is loaded, by diffusers and peft. Needs the extra `lora`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from cfx.diffusion.pipeline_parts import quietly
from cfx.errors import UserError

NAMES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")


def fuse(pipeline: Any, source: str, scale: float) -> bool:
    """Add scale times the low-rank weights of a file or a folder to the pipeline's network and text encoders, for good.

    Returns whether the text encoders were changed. Raises ImportError without peft, FileNotFoundError, and UserError for weights
    that are of another model, in whole or in part.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ImportError(f"low-rank weights need peft; install it with: pip install 'cfx-audit[lora]' ({error})") from error
    file = _file(Path(source))
    if not hasattr(pipeline, "load_lora_weights"):
        raise UserError(f"{type(pipeline).__name__} takes no low-rank weights; take `lora` out, or give a fine-tuned network")
    try:
        with quietly():
            expected = _pairs(pipeline, file)
            pipeline.load_lora_weights(str(file.parent), weight_name=file.name, low_cpu_mem_usage=False, local_files_only=True)
    except (ValueError, KeyError, RuntimeError, TypeError, OSError) as error:
        raise UserError(f"{file} does not fit {type(pipeline).__name__}: {str(error).strip().splitlines()[0]}") from error
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    found = {name: sum(1 for module in part.modules() if getattr(module, "lora_A", None)) for name, part in networks.items()}
    if expected == 0 or sum(found.values()) != expected:
        raise UserError(
            f"{file} holds {expected} low-rank layers, of which {sum(found.values())} fit {type(pipeline).__name__}; it was made "
            "for another model"
        )
    changed = [name for name, layers in found.items() if layers]
    with quietly():
        pipeline.fuse_lora(components=changed, lora_scale=scale)
        pipeline.unload_lora_weights()
    return any(name.startswith("text_encoder") for name in changed)


def _file(source: Path) -> Path:
    if source.is_dir():
        found = sorted(source.glob("*.safetensors"))
        named = [file for file in found if file.name in NAMES] or found
        if len(named) != 1:
            there = ", ".join(file.name for file in named) or "none"
            raise FileNotFoundError(f"{source} should hold one .safetensors of low-rank weights, and has {there}; name the file")
        return named[0]
    if source.suffix != ".safetensors":
        raise UserError(f"{source} is no .safetensors, and other files can run code when they are read; have it converted")
    if not source.is_file():
        raise FileNotFoundError(f"there are no low-rank weights at {source}; check `lora`, or download them (hf download)")
    return source


def _pairs(pipeline: Any, file: Path) -> int:
    """How many layers the file has weights for, after diffusers' own renaming of foreign formats."""
    state = type(pipeline).lora_state_dict(str(file.parent), weight_name=file.name, local_files_only=True)
    state = state[0] if isinstance(state, tuple) else state
    return sum(1 for name in state if name.endswith((".lora_A.weight", ".lora.down.weight", "lora_down.weight", ".lora_A.bias")))
