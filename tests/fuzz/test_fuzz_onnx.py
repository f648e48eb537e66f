"""Any bytes for an ONNX file: a model that answers, or a refusal that names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from onnx import TensorProto, helper, numpy_helper

from cfx.classifiers import load_black_box
from cfx.classifiers.onnx import OnnxConfig, shape_of
from tests.fuzz.bounds import answer, examples
from tests.fuzz.mutation import mutated
from warehouse.facts.query_ledger import QueryLedger

WEIGHTS = np.array([[-2.0, -1.0, -3.0], [3.0, 1.0, 2.0]], np.float32).T.copy()


def model() -> bytes:
    """Two logits of the mean of each channel of 4 x 4 images."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["images", "places"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        ],
        "means",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.array([2, 3]), "places"), numpy_helper.from_array(WEIGHTS, "weights")],
    )
    made: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    return made


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx") / "model.onnx"


def test_a_mutated_model_answers_or_is_refused(path: Path) -> None:
    x = torch.rand(2, 3, 4, 4) * 2 - 1

    @examples(20, 4000)
    @given(mutated(model()))
    def holds(content: bytes) -> None:
        path.write_bytes(content)
        config = OnnxConfig(access="onnx", weights=path, classes=("low", "high"), answers="logits")
        answer(lambda: shape_of(path), path)
        found = answer(lambda: load_black_box(config, QueryLedger(None, "onnx", None))(x), path)
        if found is not None:
            assert found.shape == (2, 2) and bool(found.isfinite().all())

    holds()
