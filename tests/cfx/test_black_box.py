"""What a black box is shown and how its answers are read: each answer that cannot be used is refused by name."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from pydantic import TypeAdapter, ValidationError

from cfx.classifiers import AnyClassifier, BlackBox, ClassifierConfig, load_black_box
from cfx.classifiers.black_box import BlackBoxConfig, Preprocessing, as_probabilities
from cfx.classifiers.onnx import OnnxConfig
from cfx.classifiers.python_function import CallableConfig
from cfx.types import Classifier
from tests.servers import brightness
from warehouse.facts.query_ledger import QueryLedger

CONFIG = BlackBoxConfig(classes=("low", "high"))
IMAGES = torch.linspace(-1, 1, 2 * 3 * 4 * 4).view(2, 3, 4, 4)


def halves(images: np.ndarray) -> list[list[float]]:
    return [[0.5, 0.5] for _ in images]


def test_an_image_is_shown_as_declared() -> None:
    plain = Preprocessing().prepare(IMAGES)
    assert plain.dtype == np.float32 and plain.shape == (2, 3, 4, 4)
    assert (plain.min(), plain.max()) == (0.0, 1.0)
    as_torch = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)).prepare(IMAGES)
    np.testing.assert_array_equal(as_torch, IMAGES.numpy())  # exactly what a torch network gets by its defaults
    bytes_ = Preprocessing(range=(0, 255), dtype="uint8", layout="nhwc").prepare(IMAGES)
    assert bytes_.dtype == np.uint8 and bytes_.shape == (2, 4, 4, 3) and (bytes_.min(), bytes_.max()) == (0, 255)
    assert bytes_[0, 0, 0].tolist() == [0, round(16 / 95 * 255), round(32 / 95 * 255)]  # the channels of a pixel
    imagenet = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).prepare(torch.ones(1, 3, 1, 1))
    np.testing.assert_allclose(imagenet.ravel(), [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225], rtol=1e-6)
    assert Preprocessing(size=2).prepare(IMAGES).shape == (2, 3, 2, 2)


@pytest.mark.parametrize(
    "settings",
    [{"range": (1, 0)}, {"std": (1, 1, 0)}, {"dtype": "uint8"}, {"range": (0, 255), "std": (2, 2, 2), "dtype": "uint8"}],
)
def test_an_image_that_cannot_be_made_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Preprocessing(**settings)


@pytest.mark.parametrize(
    ("answers", "given", "expected"),
    [
        ("probabilities", [[0.25, 0.75]], [[0.25, 0.75]]),
        (
            "probabilities",
            [[0.2499, 0.7499]],
            [[0.2499 / 0.9998, 0.7499 / 0.9998]],
        ),  # half precision is made to add up
        ("logits", [[0.0, np.log(3)]], [[0.25, 0.75]]),
        ("logits", [[1000.0, 0.0]], [[1.0, 0.0]]),
        ("second", [0.75], [[0.25, 0.75]]),
        ("second", [[0.75]], [[0.25, 0.75]]),
    ],
)
def test_an_answer_is_read_as_declared(answers: str, given: object, expected: list[list[float]]) -> None:
    config = BlackBoxConfig(classes=("low", "high"), answers=answers)
    np.testing.assert_allclose(as_probabilities(given, 1, config, "it"), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([[float("nan"), 1.0]], "NaN"),
        ([[float("inf"), 0.0]], "NaN or infinity"),
        ([[0.2, 0.3, 0.5]], r"shape \(1, 3\) to 1 images; probabilities of low, high have shape \(1, 2\)"),
        ([[0.5, 0.5], [0.5, 0.5]], r"shape \(2, 2\) to 1"),
        ([0.5, 0.5], "shape"),
        ([[2.0, -1.0]], r"\(2, -1\), which are not probabilities; if they are scores, set `answers: logits`"),
        ([[0.9, 0.9]], "not probabilities"),
        ([["cat", "dog"]], "no table of numbers"),
        ([[0.5], [0.5, 0.5]], "no table of numbers"),
        (None, "shape|NaN"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused_by_name(given: object, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        as_probabilities(given, 1, CONFIG, "http://model")
    assert "http://model" in str(error.value)


def test_a_python_function_is_a_classifier_and_is_queried_with_each_image_once() -> None:
    ledger = QueryLedger(None, "brightness", None)
    config = CallableConfig(access="callable", module="tests.servers:brightness", classes=("low", "high"), limits={"batch": 3})
    black_box = load_black_box(config, ledger)
    assert isinstance(black_box, Classifier) and not black_box.differentiable
    x = torch.rand(7, 3, 4, 4) * 2 - 1
    again = torch.cat([x, x[:2]])
    p = black_box(again).softmax(1)
    torch.testing.assert_close(p[:7], torch.from_numpy(brightness(((x + 1) / 2).numpy())), atol=1e-6, rtol=0)
    torch.testing.assert_close(p[7:], p[:2], atol=0, rtol=0)
    black_box(x.flip(0))
    assert ledger.calls(0)["batch"] == [3, 3, 1]


def test_a_function_that_is_edited_is_another_one_in_the_same_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    config = CallableConfig(access="callable", module="edited_model:answer", classes=("low", "high"))
    found = []
    for high in (0.3, 0.7):  # sources of one length, written within a second
        (tmp_path / "edited_model.py").write_text(f"HIGH = {high}\n\ndef answer(x):\n    return [[1 - HIGH, HIGH] for _ in x]\n")
        black_box = load_black_box(config, QueryLedger(None, "edited", None))
        found.append((float(black_box(IMAGES[:1]).exp()[0, 1]), black_box.fingerprint))
    assert [p for p, _ in found] == pytest.approx([0.3, 0.7]) and found[0][1] != found[1][1]


def test_an_onnx_file_that_is_overwritten_is_another_model_in_the_same_process(tmp_path: Path) -> None:
    found = []
    for order in (("low", "column"), ("column", "low")):
        path = brightness_model(tmp_path / "model.onnx", order)
        black_box = load_black_box(OnnxConfig(access="onnx", weights=path, classes=("low", "high")), QueryLedger(None, "m", None))
        found.append((black_box(IMAGES), black_box.fingerprint))
    torch.testing.assert_close(found[0][0], found[1][0].flip(1))
    assert found[0][1] != found[1][1] and not torch.equal(found[0][0], found[1][0])


def test_one_field_tells_the_ways_to_a_classifier_apart_and_none_means_torch() -> None:
    read = TypeAdapter(AnyClassifier).validate_python
    assert isinstance(read({"weights": "portraits:planted"}), ClassifierConfig)
    settings = {"access": "callable", "module": "tests.cfx.test_black_box:halves", "classes": ["a", "b"]}
    assert isinstance(read(settings), CallableConfig)
    with pytest.raises(ValidationError, match="telepathy.*'torch', 'callable', 'onnx', 'kserve', 'json'"):
        read({"access": "telepathy"})
    with pytest.raises(ValidationError, match="name of its own"):
        read(settings | {"classes": ["a", "a"]})
    with pytest.raises(ValidationError, match="two classes"):
        read(settings | {"classes": ["a", "b", "c"], "answers": "second"})


@pytest.mark.parametrize("module", ["tests.nowhere:f", "tests.cfx.test_black_box:nothing"])
def test_a_function_that_is_not_there_is_reported(module: str) -> None:
    with pytest.raises(ImportError, match=module.split(":")[-1] if "nothing" in module else "tests.nowhere"):
        load_black_box(CallableConfig(access="callable", module=module, classes=("a", "b")), QueryLedger(None, "f", None))


def brightness_model(path: Path, order: tuple[str, str] = ("low", "column")) -> Path:
    """`tests.servers.brightness` as an ONNX file, its two columns in this order."""
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["high"], keepdims=0),
        helper.make_node("Unsqueeze", ["high", "last"], ["column"]),
        helper.make_node("Sub", ["one", "column"], ["low"]),
        helper.make_node("Concat", order, ["p"], axis=1),
    ]
    constants = [
        numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
        numpy_helper.from_array(np.array([1]), "last"),
        numpy_helper.from_array(np.array([[1]], np.float32), "one"),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 4, 4])
    answers = helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph(nodes, "brightness", [images], [answers], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_an_onnx_file_is_a_classifier(tmp_path: Path) -> None:
    path = brightness_model(tmp_path / "model.onnx")

    def loaded(**more: object) -> BlackBox:
        config = OnnxConfig.model_validate({"access": "onnx", "weights": path, "classes": ["low", "high"], **more})
        return load_black_box(config, QueryLedger(None, "model", None))

    x = torch.rand(7, 3, 4, 4) * 2 - 1
    right = torch.from_numpy(brightness(((x + 1) / 2).numpy()))
    torch.testing.assert_close(loaded()(x).softmax(1), right, atol=1e-6, rtol=0)
    torch.testing.assert_close(loaded(input="images", output="p", limits={"batch": 2})(x).softmax(1), right, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="model.onnx has no output 'q'; it has p"):
        loaded(output="q")
    with pytest.raises(ValueError, match=r"image.size is 5, but .*model.onnx takes images of shape"):
        loaded(image={"size": 5})(x[:1])
    with pytest.raises(FileNotFoundError, match="none.onnx"):
        loaded(weights=tmp_path / "none.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match="broken.onnx is no model that ONNX Runtime can run"):
        loaded(weights=tmp_path / "broken.onnx")
