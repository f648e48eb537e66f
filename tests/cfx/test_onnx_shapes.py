"""What an ONNX model takes is read from its shape: size, channels first or last, grey, bytes, how many at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cfx.classifiers import BlackBox, load_black_box
from cfx.classifiers.black_box import Preprocessing
from cfx.classifiers.centre import LUMA
from cfx.classifiers.onnx import OnnxConfig
from cfx.errors import UserError
from warehouse.facts.query_ledger import QueryLedger

X = torch.rand(5, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
WEIGHTS = np.array([[-2.0, -1.0, -3.0], [3.0, 1.0, 2.0]], np.float32)


def model(path: Path, shape: list[Any], kind: int = TensorProto.FLOAT, outputs: tuple[Any, ...] = ("n", 2)) -> Path:
    """Two logits of the mean of each channel, for images of this shape."""
    last = shape[3] in (1, 3)
    channels = shape[3] if last else shape[1]
    constants = [
        numpy_helper.from_array(np.array([1, 2] if last else [2, 3]), "places"),
        numpy_helper.from_array(
            np.resize(WEIGHTS, (2, 4))[:, :4].T.copy() if channels == 4 else WEIGHTS[:, :channels].T.copy(), "weights"
        ),
        numpy_helper.from_array(np.array([0, -1, 1, 1]), "long"),
    ]
    nodes = [
        helper.make_node("Cast", ["images"], ["given"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["given", "places"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["flat"]),
        helper.make_node("Reshape", ["flat", "long"], ["logits"])
        if len(outputs) == 4
        else helper.make_node("Identity", ["flat"], ["logits"]),
    ]
    given = helper.make_tensor_value_info("images", kind, shape)
    graph = helper.make_graph(
        nodes, "means", [given], [helper.make_tensor_value_info("logits", TensorProto.FLOAT, outputs)], constants
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def box(path: Path, **settings: Any) -> BlackBox:
    config = OnnxConfig.model_validate({"access": "onnx", "weights": path, "classes": ["a", "b"], "answers": "logits"} | settings)
    return load_black_box(config, QueryLedger(None, "model", None))


SHAPES: dict[str, tuple[list[Any], int, dict[str, Any], dict[str, Any]]] = {
    "channels first": (["n", 3, 12, 12], TensorProto.FLOAT, {}, {"layout": "nchw", "size": 12}),
    "channels last": (["n", 12, 12, 3], TensorProto.FLOAT, {}, {"layout": "nhwc", "size": 12}),
    "not square": (["n", 3, 12, 16], TensorProto.FLOAT, {}, {"size": (12, 16)}),
    "channels last, not square": ([None, 12, 16, 3], TensorProto.FLOAT, {}, {"layout": "nhwc", "size": (12, 16)}),
    "any size": (["n", 3, "h", "w"], TensorProto.FLOAT, {}, {"layout": "nchw", "size": None}),
    "any size, channels last": (["n", "h", "w", 3], TensorProto.FLOAT, {}, {"layout": "nhwc", "size": None}),
    "any size, one that is set": (["n", "h", "w", 3], TensorProto.FLOAT, {"size": 8}, {"layout": "nhwc", "size": 8}),
    "one at a time": ([1, 12, 12, 3], TensorProto.FLOAT, {}, {"layout": "nhwc"}),
    "two at a time": ([2, 3, 12, 12], TensorProto.FLOAT, {}, {"layout": "nchw"}),
    "half": (["n", 12, 12, 3], TensorProto.FLOAT16, {}, {"layout": "nhwc"}),
    "bytes": (["n", 12, 12, 3], TensorProto.UINT8, {}, {"dtype": "uint8", "range": (0.0, 255.0)}),
    "said again": (["n", 12, 12, 3], TensorProto.FLOAT, {"layout": "nhwc", "size": 12}, {"layout": "nhwc", "size": 12}),
}


@pytest.mark.parametrize("case", SHAPES)
def test_a_model_is_shown_what_its_shape_says(case: str, tmp_path: Path) -> None:
    shape, kind, settings, expected = SHAPES[case]
    found = box(model(tmp_path / "m.onnx", shape, kind), image=settings)
    assert isinstance(found.config, OnnxConfig)
    assert {name: getattr(found.config.image, name) for name in expected} == expected
    scale = 255 if kind == TensorProto.UINT8 else 1
    logits = (X + 1).mean((2, 3)) / 2 * scale @ torch.tensor(WEIGHTS.T)
    torch.testing.assert_close(
        found(X).softmax(1), logits.softmax(1), atol=0.02 if kind == TensorProto.UINT8 else 2e-3, rtol=0.02
    )


@pytest.mark.parametrize("shape", [["n", 1, 12, 12], ["n", 12, 12, 1]], ids=["first", "last"])
def test_a_grey_model_sees_the_luma(shape: list[Any], tmp_path: Path) -> None:
    grey = ((X + 1) / 2 * torch.tensor(LUMA).view(3, 1, 1)).sum(1).mean((1, 2))
    logits = grey[:, None] * torch.tensor(WEIGHTS[:, 0])
    torch.testing.assert_close(box(model(tmp_path / "m.onnx", shape))(X).softmax(1), logits.softmax(1), atol=1e-5, rtol=0)


def test_answers_with_places_of_size_one_are_answers(tmp_path: Path) -> None:
    flat, long = (
        model(tmp_path / "a.onnx", ["n", 3, 12, 12]),
        model(tmp_path / "b.onnx", ["n", 3, 12, 12], outputs=("n", 2, 1, 1)),
    )
    torch.testing.assert_close(box(long)(X), box(flat)(X))


REFUSED: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "another size": (
        ["n", 12, 12, 3],
        {"image": {"size": 8}},
        r"image.size is 8, but .* takes images of shape \['n', 12, 12, 3\]",
    ),
    "another layout": (["n", 12, 12, 3], {"image": {"layout": "nchw"}}, "image.layout is nchw, but"),
    "grey set to colour": (["n", 1, 12, 12], {"image": {"channels": 3}}, "image.channels is 3, but"),
    "four channels": (["n", 4, 12, 12], {}, "only images of 1 or 3 channels"),
    "other classes": (
        ["n", 3, 12, 12],
        {"classes": ["a", "b", "c"]},
        r"gives 2 numbers in logits, and there are 3 classes \(a, b, c\)",
    ),
    "one number of two": (["n", 3, 12, 12], {"answers": "second"}, "gives 2 numbers in logits"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_the_shape_contradicts_are_refused_before_work(case: str, tmp_path: Path) -> None:
    shape, settings, words = REFUSED[case]
    with pytest.raises(UserError, match=words):
        box(model(tmp_path / "m.onnx", shape), **settings)


def test_blue_green_red_and_the_middle_are_what_caffe_wants() -> None:
    image = Preprocessing(range=(0, 255), mean=(104, 117, 123), order="bgr", layout="nhwc", crop=0.5, size=6)
    shown = image.prepare(X)
    middle = (X[:, :, 3:9, 3:9] + 1) * 127.5
    assert shown.shape == (5, 6, 6, 3)
    np.testing.assert_allclose(shown[..., 0], middle[:, 2] - 104, atol=1e-4)
    np.testing.assert_allclose(shown[..., 2], middle[:, 0] - 123, atol=1e-4)
