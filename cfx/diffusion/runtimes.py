"""What computes a UNet's passes that need no gradient, and how exactly: the choices, and where each can work."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from cfx.diffusion.compiled import Compiled, check_compiles
from cfx.diffusion.forward_passes import ForwardPasses, Precision
from cfx.errors import UserError

Runtime = Literal["torch", "torch.compile", "onnxruntime"]


def computed(network: nn.Module, runtime: Runtime, precision: Precision) -> nn.Module:
    """The network, computed so; itself where that is by torch, in float32."""
    if runtime == "onnxruntime":
        return Compiled(network)
    if (runtime, precision) == ("torch", "float32"):
        return network
    return ForwardPasses(network, precision, compiled=runtime == "torch.compile")


def check_computes(runtime: Runtime, precision: Precision, device: str) -> dict[str, str | None]:
    """What computes instead of torch, with its version, and the precision instead of float32: what a run is known by.

    Raises UserError where they cannot work together, or on this device; ImportError without the extra of a runtime.
    """
    check_together(runtime, precision)
    found: dict[str, str | None] = {}
    if runtime == "onnxruntime":
        found["runtime"] = check_compiles(device)
    elif runtime == "torch.compile":
        _check_compiler(device)
        found["runtime"] = f"torch.compile {torch.__version__}"
    if precision == "bfloat16":
        if device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise UserError(
                f"precision: bfloat16 is not what {torch.cuda.get_device_name()} computes in (Ampere and later do); leave "
                "`precision` out"
            )
        found["precision"] = precision
    return found


def check_together(runtime: Runtime, precision: Precision) -> None:
    """Raises UserError for a precision that a runtime does not compute in."""
    if runtime == "onnxruntime" and precision != "float32":
        raise UserError(
            f"runtime: onnxruntime computes in float32, but precision is {precision}; leave `precision` out, or set "
            "`runtime: torch`"
        )


def _check_compiler(device: str) -> None:
    """Raises UserError where torch.compile lacks what it makes programs with."""
    needs = "runtime: torch.compile needs"
    if device == "cuda":
        if torch.cuda.get_device_capability() < (7, 0):
            raise UserError(f"{needs} a GPU of compute capability 7.0 or more, and {torch.cuda.get_device_name()} has less")
        if find_spec("triton") is None:
            raise UserError(f"{needs} the package triton, which PyTorch's builds for CUDA bring; leave `runtime` out")
        variable, names = "CC", ["gcc", "clang"]  # Triton's launcher is a C program
    else:
        variable, names = "CXX", ["clang++" if sys.platform == "darwin" else "g++"]
    wanted = [os.environ[variable]] if os.environ.get(variable) else names
    if not any(shutil.which(name) for name in wanted):
        raise UserError(f"{needs} a compiler ({' or '.join(wanted)}), and none is on the PATH; or leave `runtime` out")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        raise UserError(f"{needs} Python's headers (Debian: python3-dev), and there is no Python.h; or leave `runtime` out")
