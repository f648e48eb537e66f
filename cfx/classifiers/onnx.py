"""A black box that is an ONNX file, run by ONNX Runtime. Needs the extra `onnx`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from cfx.classifiers.black_box import Array, BlackBoxConfig, Ledger, Query
from cfx.errors import UserError

# An entry of a tensor's `external_data`, protobuf on the wire: key (field 1) "location", then the length of the value.
EXTERNAL = re.compile(rb"\n\x08location\x12([\x01-\x7f])", re.DOTALL)

FLOATS = {"tensor(float16)": "float16", "tensor(double)": "float64"}  # inputs that float32 is cast to


class OnnxConfig(BlackBoxConfig):
    """An ONNX file in this process."""

    access: Literal["onnx"]
    weights: Path = Field(description="the .onnx file")
    input: str | None = Field(None, description="the input that takes the images; default: the first")
    output: str | None = Field(None, description="the output that answers; default: the first")


def load_onnx(config: OnnxConfig, device: torch.device | str) -> tuple[Query, str]:
    """The model as a black box's `query`, and the SHA-256 of its file and its external data.

    Raises ImportError without ONNX Runtime, FileNotFoundError without the file, UserError for a file or a name that is no good.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("access: onnx needs ONNX Runtime; install it with: pip install 'cfx-audit[onnx]'") from error
    if not config.weights.is_file():
        raise FileNotFoundError(f"there is no file {config.weights}; `weights` of an onnx classifier is a .onnx file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # shards run side by side
    gpu = ["CUDAExecutionProvider"] if str(device).startswith("cuda") else []
    providers = [name for name in (*gpu, "CPUExecutionProvider") if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(str(config.weights), options, providers=providers)
    except Exception as error:  # ONNX Runtime's own classes, which share no base
        raise UserError(f"{config.weights} is no model that ONNX Runtime can run: {error}") from error
    name = _one_of([entry.name for entry in session.get_inputs()], config.input, "input", config.weights)
    wanted = FLOATS.get(next(entry.type for entry in session.get_inputs() if entry.name == name))
    answer = _one_of([entry.name for entry in session.get_outputs()], config.output, "output", config.weights)

    def query(shown: Array, ledger: Ledger) -> object:
        with ledger.call(len(shown)) as call:
            try:
                given = shown if wanted is None or shown.dtype.kind != "f" else shown.astype(wanted)
                (answers,) = session.run([answer], {name: given})
            except Exception as error:
                raise UserError(f"{config.weights} fails on {shown.dtype}{shown.shape}: {error}") from error
            call.status = "answered"
        return answers

    return query, _fingerprint(config.weights)


def _fingerprint(model: Path) -> str:
    """SHA-256 of the file and of its external data: large weights lie beside a model, which names their files."""
    content = model.read_bytes()
    digest = hashlib.sha256(content)
    for name in sorted({content[at.end() : at.end() + at[1][0]] for at in EXTERNAL.finditer(content)}):
        path = model.parent / name.decode(errors="replace")
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _one_of(names: list[str], wanted: str | None, what: str, path: Path) -> str:
    if wanted is not None and wanted not in names:
        raise UserError(f"{path} has no {what} {wanted!r}; it has {', '.join(names)}")
    return wanted or names[0]
