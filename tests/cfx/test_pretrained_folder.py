"""Folders of Hugging Face's transformers: the network, what it sees and what its classes are called, or a refusal in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from cfx.attributes.oracle import OracleConfig, load_oracle
from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.classifiers.processor import seen_through
from cfx.errors import UserError
from cfx.images import decode_png, read_image
from cfx.saliency.maps import Saliency, default_map, saliency
from tasks.networks import fingerprint, state_of
from tests.cfx.pretrained import KINDS, NAMES, write_pretrained

SEEN = {  # size, share of the side, squeezes, side of the audit's images at which nothing is resampled twice
    "vit": (32, 1.0, True, 32),
    "resnet": (32, 32 / 36, False, 36),
    "convnext": (48, 48 / 50, False, 50),
    "mobilevit": (64, 64 / 72, False, 72),
}


def photograph(side: int, width: int | None = None) -> Image.Image:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    return small.resize((width or side, side), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write_pretrained(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_answers_as_it_does_behind_its_own_preprocessor(folders: dict[str, Path], kind: str, tmp_path: Path) -> None:
    size, crop, squeezes, side = SEEN[kind]
    classifier = load_classifier(ClassifierConfig(weights=folders[kind]))
    network = classifier.network
    assert classifier.classes == ("cat", "dog", "fox")
    assert (network.input_size, network.squeezes) == (size, squeezes) and network.crop == crop

    photograph(256).save(tmp_path / "image.png")
    content = (tmp_path / "image.png").read_bytes()
    x = decode_png([read_image(content, side, 10**6, 8, resample="bicubic" if kind != "vit" else "bilinear").png])
    process = transformers.AutoImageProcessor.from_pretrained(folders[kind], local_files_only=True)
    own = transformers.AutoModelForImageClassification.from_pretrained(folders[kind], local_files_only=True).eval()
    with torch.no_grad():
        expected = own(**process(photograph(256), return_tensors="pt")).logits
        found = classifier(x)
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, atol=0.05 * float(expected.std()), rtol=0)


def test_the_channels_of_mobilevit_are_blue_green_red(folders: dict[str, Path]) -> None:
    module = load_classifier(ClassifierConfig(weights=folders["mobilevit"])).network.module
    assert bool(module.bgr)
    assert not any(load_classifier(ClassifierConfig(weights=folders[kind])).network.module.bgr for kind in ("vit", "resnet"))


@pytest.mark.parametrize(("kind", "expected"), [("vit", "grad_cam"), ("resnet", "grad_cam"), ("convnext", "grad_cam")])
def test_saliency_lies_where_the_network_looks(folders: dict[str, Path], kind: str, expected: str) -> None:
    classifier = load_classifier(ClassifierConfig(weights=folders[kind]))
    x = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found = default_map(classifier, (40, 40))
    shown = saliency(classifier, x, torch.tensor([0, 1]), Saliency(map="integrated_gradients", steps=4))
    assert found.map == expected
    looked = saliency(classifier, x, torch.tensor([0, 1]), found)
    if classifier.network.crop < 1:
        edge = (40 - round(40 * classifier.network.crop)) // 2
        assert looked.shape == (2, 40, 40)
        for one in (looked, shown):
            assert not one[:, :edge].any() and not one[..., -edge:].any() and one[:, edge:-edge, edge:-edge].any()


def processed(**settings: Any) -> Callable[[Image.Image], Any]:
    """As many a preprocessor: resize the shorter side, cut out the centre, subtract, divide."""

    def process(image: Image.Image) -> Any:
        scale = settings["resize"] / min(image.size)
        small = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        left, top = ((side - settings["side"]) // 2 for side in small.size)
        pixels = np.asarray(small.crop((left, top, left + settings["side"], top + settings["side"])), dtype=np.float64)
        made = (pixels / 255 - settings["mean"]) / settings["std"]
        return (settings.get("then", lambda y: y)(made)).transpose(2, 0, 1)

    return process


@pytest.mark.parametrize(("resize", "side"), [(256, 224), (232, 224), (224, 224), (384, 384), (72, 64), (40, 32), (36, 28)])
def test_what_a_preprocessor_does_is_measured(resize: int, side: int) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    seen = seen_through(processed(resize=resize, side=side, mean=mean, std=std))
    assert seen.input_size == side and not seen.squeezes and not seen.bgr
    assert seen.crop == side / resize
    assert seen.mean == pytest.approx(mean, abs=1e-5) and seen.std == pytest.approx(std, abs=1e-5)
    flipped = seen_through(processed(resize=resize, side=side, mean=mean, std=std, then=lambda y: y[..., ::-1]))
    assert flipped.bgr and flipped.mean == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize(
    ("then", "words"),
    [
        (lambda y: y**3, "does more than to subtract a mean"),
        (lambda y: -y, "does more than to subtract a mean"),
        (lambda y: y[:16], "three channels of a square"),
        (lambda y: y[..., :1], "three channels of a square"),
    ],
    ids=["gamma", "negative", "wide", "grey"],
)
def test_a_preprocessor_that_cannot_be_followed_is_refused(then: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        seen_through(processed(resize=40, side=32, mean=0.0, std=1.0, then=then))


def edited(folder: Path, file: str = "config.json", **fields: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def without_head(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in state.items() if not name.startswith("classifier")},
        folder / "model.safetensors",
        {"format": "pt"},
    )


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a backbone": (lambda f: edited(f, architectures=["ViTModel"]), "holds a ViTModel, and an image classifier is needed"),
    "text": (lambda f: edited(f, architectures=["BertForSequenceClassification"], model_type="bert"), "holds a BertForSequence"),
    "another task": (lambda f: edited(f, architectures=None, model_type="bert"), "holds a Bert, which is no image classifier"),
    "code of its own": (
        lambda f: edited(f, architectures=None, model_type="mine", auto_map={"AutoConfig": "mine.Config"}),
        "cannot be loaded",
    ),
    "quantised": (lambda f: edited(f, quantization_config={"load_in_8bit": True}), "is quantised"),
    "regression": (lambda f: edited(f, problem_type="regression"), "is a regression"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "is not valid JSON"),
    "no object": (lambda f: (f / "config.json").write_text("[]"), "an image classifier is needed"),
    "no head": (without_head, r"are not those of its config.json: 2 missing \(classifier.bias, classifier.weight\)"),
    "another size": (lambda f: edited(f, hidden_size=64), r"37 mismatched \(classifier.weight: \[3, 32\] for \[3, 64\]"),
    "deeper": (lambda f: edited(f, num_hidden_layers=3), r"16 missing \(.* …\)"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    "pickles": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "pytorch_model.bin, pickles that can run code; only safetensors are read",
    ),
    "a pointer": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "is a Git LFS pointer",
    ),
    "half a file": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:5000]),
        "is not a whole safetensors file",
    ),
    "no preprocessor": (
        lambda f: (f / "preprocessor_config.json").unlink(),
        "has no preprocessor_config.json, .* set all three of `input_size`, `mean` and `std`",
    ),
    "another's preprocessor": (
        lambda f: edited(f, "preprocessor_config.json", image_processor_type="NoSuchProcessor"),
        "cannot be loaded",
    ),
    "one class": (lambda f: write_pretrained(f, id2label={0: "LABEL_0"}), "does not say what its classes are called"),
    "two labels": (
        lambda f: edited(f, problem_type="multi_label_classification"),
        r"says yes or no to each of 3 labels \(cat, dog, fox\); .* set `output` to its name",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_image_classifier_or_not_whole_is_refused(case: str, tmp_path: Path) -> None:
    break_it, words = BROKEN[case]
    break_it(write_pretrained(tmp_path / "model"))
    with pytest.raises(UserError, match=words) as caught:
        load_classifier(ClassifierConfig(weights=tmp_path / "model"))
    assert "model" in str(caught.value) and len(str(caught.value)) < 600


def test_settings_that_a_folder_says_itself_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="leave out `module`, `key`"):
        load_classifier(ClassifierConfig(weights=folders["vit"], module="timm:vit_tiny_patch16_224", key="model"))


def test_without_a_preprocessor_the_settings_say_what_is_seen(tmp_path: Path) -> None:
    folder = write_pretrained(tmp_path / "model", preprocessor=False)
    said = {"input_size": 32, "mean": (0.4,) * 3, "std": (0.2,) * 3}
    network = load_classifier(ClassifierConfig(weights=folder, **said)).network
    assert network.input_size == 32 and network.crop == 1
    assert network.gain.flatten().tolist() == pytest.approx([2.5] * 3)


def test_settings_count_and_a_contradiction_is_kept(folders: dict[str, Path]) -> None:
    network = load_classifier(ClassifierConfig(weights=folders["resnet"], mean=(0.5,) * 3, crop=1.0)).network
    assert (
        network.crop == 1 and network.origins["mean"] == "the settings" and network.origins["std"] == "the folder's preprocessor"
    )
    mean, crop = network.contradicted
    assert "`mean` is (0.5, 0.5, 0.5) in the settings, where the folder's preprocessor has" in mean and "`crop`" in crop


def test_every_file_of_the_folder_is_part_of_who_it_is(tmp_path: Path) -> None:
    folder = write_pretrained(tmp_path / "model")
    prints, states = [], []

    def take() -> None:
        prints.append(fingerprint(load_classifier(ClassifierConfig(weights=folder))))
        states.append(state_of(folder))

    take()
    for change in (
        lambda: edited(folder, "preprocessor_config.json", image_mean=[0.4, 0.4, 0.4]),
        lambda: edited(folder, hidden_act="relu"),
        lambda: edited(folder, id2label={"0": "a", "1": "b", "2": "c"}),
        lambda: without_and_with_another_head(folder),
    ):
        change()
        take()
    assert len(set(prints)) == len(set(states)) == 5
    (folder / "README.md").write_text("A model card.")
    assert fingerprint(load_classifier(ClassifierConfig(weights=folder))) == prints[-1]


def without_and_with_another_head(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file(state | {"classifier.bias": state["classifier.bias"] + 1}, folder / "model.safetensors", {"format": "pt"})


def test_half_precision_is_computed_in_single(tmp_path: Path) -> None:
    folder = write_pretrained(tmp_path / "model", dtype="float16")
    state = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    classifier = load_classifier(ClassifierConfig(weights=folder))
    assert all(weight.dtype == torch.float32 for weight in classifier.parameters())
    assert classifier(torch.zeros(1, 3, 32, 32)).dtype == torch.float32


def test_shards_are_one_network(tmp_path: Path) -> None:
    folder = write_pretrained(tmp_path / "model")
    whole = load_classifier(ClassifierConfig(weights=folder))
    network = transformers.AutoModelForImageClassification.from_pretrained(folder, local_files_only=True)
    network.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    (tmp_path / "shards" / "preprocessor_config.json").write_bytes((folder / "preprocessor_config.json").read_bytes())
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    torch.testing.assert_close(load_classifier(ClassifierConfig(weights=tmp_path / "shards"))(x), whole(x))


def test_one_label_of_a_multi_label_head_is_a_yes_and_a_no(tmp_path: Path) -> None:
    folder = write_pretrained(tmp_path / "model", problem_type="multi_label_classification", id2label=NAMES)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    dog = load_classifier(ClassifierConfig(weights=folder, output="dog"))
    assert dog.classes == ("not_dog", "dog")
    logits = dog.network(x)
    torch.testing.assert_close(dog(x).softmax(1)[:, 1], logits[:, 1].sigmoid())
    renamed = load_classifier(ClassifierConfig(weights=folder, output="dog", classes=("other", "a dog")))
    assert renamed.classes == ("other", "a dog") and torch.equal(renamed(x), dog(x))
    with pytest.raises(UserError, match=r"has no output 'cow'; its outputs are called cat, dog, fox"):
        load_classifier(ClassifierConfig(weights=folder, output="cow"))
    assert load_oracle(OracleConfig(weights=folder)).attributes == ("cat", "dog", "fox")


def test_two_classes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folder = write_pretrained(tmp_path / "model", id2label={0: "crane", 1: "crane", 2: "fox"})
    assert load_classifier(ClassifierConfig(weights=folder)).classes == ("crane (0)", "crane (1)", "fox")


def test_names_of_the_users_own(folders: dict[str, Path]) -> None:
    assert load_classifier(ClassifierConfig(weights=folders["vit"], classes=("a", "b", "c"))).classes == ("a", "b", "c")
