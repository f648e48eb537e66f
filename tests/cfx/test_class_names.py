"""Class names from a list, a file or ImageNet, and one label of several by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
import yaml
from torch import Tensor, nn

from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.classifiers.class_names import class_names, few, imagenet_classes, saved_names
from cfx.classifiers.onnx import OnnxConfig
from cfx.errors import ConfigError, UserError
from cfx.networks.convnet import ConvNet
from flows.config import load_config
from tests.cfx.pretrained import write_pretrained


class Means(nn.Module):
    """One logit a channel: its mean."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def means(**settings: Any) -> ClassifierConfig:
    return ClassifierConfig.model_validate({"module": f"{__name__}:Means", "input_size": 8} | settings)


FILES = {
    "one a line": ("labels.txt", "cat\ndog\nred fox\n"),
    "Windows": ("labels.txt", "\ufeffcat\r\ndog\r\nred fox\r\n\r\n"),
    "blanks around": ("labels.names", "  cat\ndog \nred fox"),
    "a list": ("labels.json", '["cat", "dog", "red fox"]'),
    "id2label": ("labels.json", '{"2": "red fox", "0": "cat", "1": "dog"}'),
}


@pytest.mark.parametrize("what", FILES)
def test_names_are_read_from_a_file(what: str, tmp_path: Path) -> None:
    name, content = FILES[what]
    (tmp_path / name).write_bytes(content.encode())
    assert means(classes=str(tmp_path / name)).classes == ("cat", "dog", "red fox")
    assert load_classifier(means(classes=tmp_path / name)).classes == ("cat", "dog", "red fox")


REFUSED = {
    "no file": ("labels.txt", None, "there is no file .*labels.txt.*give a list of names, a file with one a line, or imagenet"),
    "a gap": ("labels.txt", "cat\n\nfox\n", "line 2 of .* is empty, and every line is a class"),
    "twice": ("labels.txt", "cat\ndog\ncat\n", "every class needs a name of its own, and 'cat' is there twice"),
    "one": ("labels.txt", "cat\n", "at least 2 items"),
    "a gap in JSON": ("labels.json", '{"0": "cat", "2": "fox"}', "these are not 0 to 1"),
    "from 1": ("labels.json", '{"1": "cat", "2": "fox"}', "these are not 0 to 1"),
    "numbers": ("labels.json", "[1, 2]", "holds neither a list of names nor names by number"),
    "no JSON": ("labels.json", "cat\ndog", "is not valid JSON"),
    "Latin-1": ("labels.txt", b"caf\xe9\ndog\n", "is not text in UTF-8"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_that_could_name_other_outputs_is_refused(what: str, tmp_path: Path) -> None:
    name, content, words = REFUSED[what]
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=words):
        means(classes=str(tmp_path / name))


def test_imagenet_is_a_name_for_a_thousand(tmp_path: Path) -> None:
    assert class_names("imagenet") == imagenet_classes()
    assert len(imagenet_classes()) == len(set(imagenet_classes())) == 1000 and imagenet_classes()[340] == "zebra"
    for config in (means(classes="imagenet"), OnnxConfig(access="onnx", weights=tmp_path / "a.onnx", classes="imagenet")):
        assert config.classes == imagenet_classes()
    with pytest.raises(UserError, match=r"gives 3 logits for 1000 classes \(tench, .* … \(1,000 in all\)\)") as caught:
        load_classifier(means(classes="imagenet"))
    assert len(str(caught.value)) < 400


def test_a_file_lies_beside_the_settings_and_its_content_counts(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "name": "t",
        "data": {"images": "images", "table": "table.csv"},
        "classifier": {"module": "torchvision:resnet18", "kwargs": {"num_classes": 2}, "classes": "labels.txt"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match=r"classifier.*classes.*there is no file 'labels.txt'"):
        load_config(tmp_path / "run.yaml")
    hashes = []
    for names in ("cat\ndog\n", "dog\ncat\n"):
        (tmp_path / "labels.txt").write_text(names)
        config = load_config(tmp_path / "run.yaml")
        assert config.classifier.classes == tuple(names.split())
        hashes.append(config.result_hash())
    assert hashes[0] != hashes[1]
    assert json.loads(config.model_dump_json())["classifier"]["classes"] == ["dog", "cat"]


def test_one_label_of_several_by_name_is_a_yes_and_a_no(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    x = torch.rand(2, 3, 8, 8)
    green = load_classifier(means(classes=str(tmp_path / "labels.txt"), output="green", head="sigmoid"))
    assert green.classes == ("not_green", "green") and green.output == 1
    torch.testing.assert_close(green(x), load_classifier(means(classes=("n", "y"), output=1, head="sigmoid"))(x))
    with pytest.raises(UserError, match="'green' of .* is one of 3 that may exclude each other; .* `head: sigmoid`"):
        load_classifier(means(classes=("red", "green", "blue"), output="green"))
    with pytest.raises(UserError, match="its outputs have no names: give the column, or name all in `classes`"):
        load_classifier(means(classes=("no", "yes"), output="green", head="sigmoid"))


def test_one_attribute_of_an_oracle_by_name() -> None:
    hat = load_classifier(ClassifierConfig(weights=Path("portraits:oracle"), output="hat"))
    assert hat.classes == ("not_hat", "hat")
    with pytest.raises(UserError, match=r"says yes or no to each of 10 labels \(smile, .*; .* set `output` to its name"):
        load_classifier(ClassifierConfig(weights=Path("portraits:oracle")))


def test_few_names_are_all_said_and_many_are_counted() -> None:
    assert few(("a", "b")) == "a, b" and few(tuple("abcdefghij")) == "a, b, c, d, e, f, g, h, i, j"
    assert few(tuple("abcdefghijk")) == "a, b, c, d, e … (11 in all)"


SAVED = {
    "a list": ({"classes": ["cat", "dog"]}, ["cat", "dog"]),
    "of a folder": ({"class_to_idx": {"dog": 1, "cat": 0}}, ["cat", "dog"]),
    "by number": ({"idx_to_class": {0: "cat", 1: "dog"}}, ["cat", "dog"]),
    "by number as text": ({"id2label": {"0": "cat", "1": "dog"}}, ["cat", "dog"]),
    "twice the same": ({"classes": ("cat", "dog"), "id2label": {0: "cat", 1: "dog"}}, ["cat", "dog"]),
    "contradictory": ({"classes": ["cat", "dog"], "class_to_idx": {"cat": 1, "dog": 0}}, []),
    "a number is missing": ({"id2label": {0: "cat", 2: "dog"}}, []),
    "how many": ({"classes": 2}, []),
    "one": ({"classes": ["cat"]}, []),
    "an empty name": ({"classes": ["cat", ""]}, []),
    "nothing": ({"model": {}}, []),
    "no mapping": ([1, 2], []),
}


@pytest.mark.parametrize(("content", "names"), SAVED.values(), ids=SAVED)
def test_names_beside_the_weights_of_a_checkpoint(content: object, names: list[str]) -> None:
    assert saved_names(content) == names


def test_a_checkpoint_names_its_classes_and_contradicts_another_order(tmp_path: Path) -> None:
    network = ConvNet(2, (8,), 2)
    torch.save({"state_dict": network.state_dict(), "class_to_idx": {"dog": 1, "cat": 0}}, tmp_path / "c.pt")
    made = {"module": "cfx.networks.convnet:ConvNet", "kwargs": {"outputs": 2, "widths": (8,), "grid": 2}}
    told = load_classifier(ClassifierConfig(weights=tmp_path / "c.pt", **made))
    assert told.classes == ("cat", "dog") and told.network.notes == ()
    other = load_classifier(ClassifierConfig(weights=tmp_path / "c.pt", classes=("dog", "cat"), **made))
    (note,) = other.network.notes
    assert other.classes == ("dog", "cat") and note.endswith("trained with the order cat, dog")
    assert load_classifier(ClassifierConfig(weights=tmp_path / "c.pt", classes=("no", "yes"), **made)).network.notes == ()


def test_a_head_of_their_own_is_not_held_against_the_hubs_weights(tmp_path: Path) -> None:
    """The hub's input and normalisation are those of its own weights, which these are not."""
    network = torchvision.models.resnet18(num_classes=2)
    torch.save({"model": network.state_dict(), "classes": ["cat", "dog"]}, tmp_path / "own.pt")
    own = {"module": "torchvision:resnet18", "kwargs": {"num_classes": 2}, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    told = load_classifier(ClassifierConfig(weights=tmp_path / "own.pt", **own))
    assert told.classes == ("cat", "dog") and told.network.notes == () and told.network.contradicted == ()


def test_another_order_than_a_hugging_face_folder_has_is_told(tmp_path: Path) -> None:
    folder = write_pretrained(tmp_path / "folder")
    names = load_classifier(ClassifierConfig(weights=folder)).classes
    (note,) = load_classifier(ClassifierConfig(weights=folder, classes=names[::-1])).network.notes
    assert note.endswith(f"trained with the order {few(names)}")
