"""A black box that is an ONNX file, run by ONNX Runtime. Needs the extra `onnx`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field

from cfx.classifiers.black_box import Array, BlackBoxConfig, Ledger, Preprocessing, Query
from cfx.classifiers.class_names import few
from cfx.errors import UserError

# An entry of a tensor's `external_data`, protobuf on the wire: key (field 1) "location", then the length of the value.
EXTERNAL = re.compile(rb"\n\x08location\x12([\x01-\x7f])", re.DOTALL)

FLOATS = {"tensor(float16)": "float16", "tensor(double)": "float64"}  # inputs that float32 is cast to
COLOURS = (1, 3)  # how many channels images have


class OnnxConfig(BlackBoxConfig):
    """An ONNX file in this process. What it takes by its shape (size, channels first or last, grey, uint8) need not be set."""

    access: Literal["onnx"]
    weights: Path = Field(description="the .onnx file")
    input: str | None = Field(None, description="the input that takes the images; default: the first")
    output: str | None = Field(None, description="the output that answers; default: the first")


def load_onnx(config: OnnxConfig, device: torch.device | str) -> tuple[Query, str, OnnxConfig]:
    """The model as a black box's `query`, the SHA-256 of its file and its external data, and the settings with what it takes.

    Raises ImportError without ONNX Runtime, FileNotFoundError without the file, UserError for a file or a name that is no good,
    and for settings or classes that the model's shapes contradict.
    """
    session = _session(config.weights, device)
    given = _one_of(session.get_inputs(), config.input, "input", config.weights)
    answer = _one_of(session.get_outputs(), config.output, "output", config.weights)
    config = config.model_copy(update={"image": _fitted(config.image, given, config.weights)})
    _check_classes(config, answer)
    wanted, at_a_time = FLOATS.get(given.type), _known(given.shape[:1])[0]

    def run(shown: Array) -> Array:
        given_as = shown if wanted is None or shown.dtype.kind != "f" else shown.astype(wanted)
        answers = np.asarray(session.run([answer.name], {given.name: given_as})[0])
        return answers.reshape(answers.shape[:2]) if answers.ndim > 2 and answers.size == answers[..., :1, :1].size else answers

    def query(shown: Array, ledger: Ledger) -> object:
        with ledger.call(len(shown)) as call:
            try:
                answers = run(shown) if at_a_time is None else _in_batches(run, shown, at_a_time)
            except Exception as error:
                raise UserError(f"{config.weights} fails on {shown.dtype}{shown.shape}: {error}") from error
            call.status = "answered"
        return answers

    return query, _fingerprint(config.weights), config


class OnnxShape(NamedTuple):
    """What an ONNX file says of itself: answers an image, channels and sides that it takes; None where it leaves them open."""

    outputs: int | None
    channels: int | None
    sides: tuple[int | None, int | None]
    names: dict[str, str]  # its metadata


def shape_of(model: Path) -> OnnxShape:
    """Look at an ONNX file's first input and output. Raises as `load_onnx` does."""
    session = _session(model, "cpu")
    shape, answer = _known(session.get_inputs()[0].shape), _known(session.get_outputs()[0].shape)
    if len(shape) != 4:
        raise UserError(f"{model} takes {session.get_inputs()[0].shape}, which is no batch of images")
    last = shape[3] in COLOURS and shape[1] not in COLOURS
    channels, high, wide = (shape[3], shape[1], shape[2]) if last else shape[1:]
    outputs = 1 if len(answer) == 1 else answer[1]
    return OnnxShape(outputs, channels, (high, wide), dict(session.get_modelmeta().custom_metadata_map))


def _session(model: Path, device: torch.device | str) -> Any:
    import onnxruntime

    if not model.is_file():
        raise FileNotFoundError(f"there is no file {model}; `weights` of an onnx classifier is a .onnx file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # shards run side by side
    gpu = ["CUDAExecutionProvider"] if str(device).startswith("cuda") else []
    providers = [name for name in (*gpu, "CPUExecutionProvider") if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=providers)
    except Exception as error:  # ONNX Runtime's own classes, which share no base
        raise UserError(f"{model} is no model that ONNX Runtime can run: {error}") from error


def _fitted(image: Preprocessing, given: Any, model: Path) -> Preprocessing:
    """What the model is shown: the settings, and what is not set by its input's shape and type. Raises UserError where the two
    contradict each other, or where it takes no images."""
    shape = _known(given.shape)
    if len(shape) != 4:
        raise UserError(f"{model} takes {given.name} of shape {given.shape}, which is no batch of images")
    said: dict[str, Any] = {}
    layouts = {layout: shape[at] for layout, at in (("nchw", 1), ("nhwc", 3)) if shape[at] in COLOURS}
    layout = next(iter(layouts)) if len(layouts) == 1 else image.layout
    if len(layouts) == 1:
        said |= {"layout": layout, "channels": layouts[layout]}
    elif None not in (shape[1], shape[3]) and not layouts:
        raise UserError(f"{model} takes {given.name} of shape {given.shape}; only images of 1 or 3 channels can be shown")
    sides = shape[2:] if layout == "nchw" else shape[1:3]
    if None not in sides:
        said["size"] = sides[0] if sides[0] == sides[1] else tuple(sides)
    if given.type == "tensor(uint8)":
        said |= {"dtype": "uint8"} | ({} if "range" in image.model_fields_set else {"range": (0.0, 255.0)})
    for name in image.model_fields_set & said.keys():
        if (setting := getattr(image, name)) != said[name]:
            raise UserError(f"image.{name} is {setting}, but {model} takes {given.name} of shape {given.shape}: leave it out")
    return Preprocessing.model_validate(image.model_dump(exclude_unset=True) | said)


def _check_classes(config: OnnxConfig, answer: Any) -> None:
    """Raises UserError for another number of answers than of classes, where the model says it."""
    columns = _known(answer.shape)[1:2]
    allowed = {1} if config.answers == "second" else {len(config.classes)}
    if config.answers == "logits" and len(config.classes) == 2:
        allowed.add(1)
    if columns and columns[0] is not None and columns[0] not in allowed:
        raise UserError(
            f"{config.weights} gives {columns[0]} numbers in {answer.name}, and there are {len(config.classes)} classes "
            f"({few(config.classes)}); name them all, in the order of its outputs"
        )


def _known(shape: list[int | str | None]) -> list[int | None]:
    """The sides that a model fixes; None for each that it leaves open."""
    return [side if isinstance(side, int) and side > 0 else None for side in shape]


def _in_batches(run: Any, shown: Array, size: int) -> Array:
    """The answers of a model that takes so many images at a time, no more and no fewer: the last is repeated where one lacks."""
    short = -len(shown) % size
    filled = np.concatenate([shown, np.repeat(shown[-1:], short, axis=0)])
    return np.concatenate([run(filled[start : start + size]) for start in range(0, len(filled), size)])[: len(shown)]


def _fingerprint(model: Path) -> str:
    """SHA-256 of the file and of its external data: large weights lie beside a model, which names their files."""
    content = model.read_bytes()
    digest = hashlib.sha256(content)
    for name in sorted({content[at.end() : at.end() + at[1][0]] for at in EXTERNAL.finditer(content)}):
        path = model.parent / name.decode(errors="replace")
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _one_of(entries: list[Any], wanted: str | None, what: str, path: Path) -> Any:
    names = [entry.name for entry in entries]
    if wanted is not None and wanted not in names:
        raise UserError(f"{path} has no {what} {wanted!r}; it has {', '.join(names)}")
    return entries[names.index(wanted)] if wanted is not None else entries[0]
