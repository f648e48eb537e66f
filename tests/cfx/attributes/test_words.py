"""An oracle by words: its log-odds, that gradients reach the image, that its prompts are its identity, what is refused."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from pydantic import ValidationError

from cfx.attributes.calibration import Line
from cfx.attributes.oracle import Oracle
from cfx.attributes.vocabulary import read_vocabulary, vocabularies
from cfx.attributes.words import WordsNetwork, WordsOracleConfig, load_two_towers, load_words, scores_of
from cfx.errors import UserError
from cfx.features import OracleFeatures
from tasks.networks import fingerprint, oracle_for
from tests.cfx.pretrained import write_pretrained
from tests.cfx.tiny_image_text import write_image_text

GLASSES = {"glasses": ["a face with glasses", "a face without glasses"]}
BOTH = {**GLASSES, "hat": [["a face wearing a hat", "a photo with a hat"], ["a face without a hat"]]}


@pytest.fixture(scope="module", params=["clip", "siglip"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_text(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_text(tmp_path_factory.mktemp("clip"))


def by(folder: Path, words: object = BOTH, **settings: object) -> Oracle:
    return load_words(WordsOracleConfig.model_validate({"words": words, "model": str(folder), **settings}))


def smooth(side: int = 48) -> torch.Tensor:
    """Two images without fine detail, 8 bits a channel, (2, 3, side, side) in [-1, 1]."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(2, 3, 4, 4, generator=generator) * 1.6 - 0.8
    return (torch.nn.functional.interpolate(coarse, size=side, mode="bilinear") * 127.5).round() / 127.5


def test_log_odds_are_those_of_zero_shot_classification_between_the_two_prompts(folder: Path) -> None:
    """As the model's own processor, tokenizer and `forward` have them, two prompts at a time."""
    x = smooth()
    images = [Image.fromarray(((one + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()) for one in x]
    model = transformers.AutoModel.from_pretrained(folder)
    pixels = transformers.AutoImageProcessor.from_pretrained(folder)(images, return_tensors="pt")["pixel_values"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = tokenizer(GLASSES["glasses"], padding="max_length", max_length=16, return_tensors="pt")
    with torch.no_grad():
        logits = model(input_ids=texts["input_ids"], pixel_values=pixels).logits_per_image
    expected = (logits[:, 0] - logits[:, 1])[:, None]
    torch.testing.assert_close(by(folder, GLASSES).logits(x), expected, atol=0.05 * float(expected.abs().max()), rtol=0.05)


def test_an_ensemble_is_the_mean_of_unit_embeddings_brought_to_length_one(folder: Path) -> None:
    towers = load_two_towers(str(folder))
    one, other, absent, both = (
        towers.averaged(prompts).detach()
        for prompts in (["a hat"], ["a photo with a hat"], ["a face without a hat"], ["a hat", "a photo with a hat"])
    )
    mean = (one + other) / 2
    torch.testing.assert_close(both, mean / mean.norm())
    assert float(mean.norm()) < 0.9999, "the two prompts differ, or averaging shows nothing"
    scale = towers.model.logit_scale.exp().detach()
    (direction,) = towers.directions({"hat": (["a hat", "a photo with a hat"], ["a face without a hat"])})
    torch.testing.assert_close(direction, scale * (both - absent))


def test_gradients_reach_every_part_of_the_image(folder: Path) -> None:
    oracle, x = by(folder), smooth().requires_grad_()
    (gradient,) = torch.autograd.grad(oracle.logits(x)[:, 0].sum(), x)
    assert (gradient.abs().amax((1, 3)) > 0).float().mean() > 0.9


def test_slope_and_offset_are_laid_on_the_scores(clip: Path) -> None:
    plain, x = by(clip), smooth()
    oracle = by(clip, calibration={"hat": {"slope": 0.5, "offset": 2.0}})
    torch.testing.assert_close(oracle.logits(x)[:, 1], 0.5 * plain.logits(x)[:, 1] + 2)
    torch.testing.assert_close(oracle.logits(x)[:, 0], plain.logits(x)[:, 0])
    torch.testing.assert_close(scores_of(oracle, x), plain.logits(x), rtol=1e-4, atol=1e-4)


def test_the_fingerprint_depends_on_the_prompts_and_the_calibration_and_not_on_the_call(clip: Path) -> None:
    other = {"glasses": ["a face with glasses", "a face"]}
    line = {"glasses": Line(slope=2.0, offset=0.0)}
    prints = [
        fingerprint(by(clip, words, calibration=lines).network)
        for words, lines in ((GLASSES, None), (other, None), (GLASSES, line))
    ]
    assert len(set(prints)) == 3
    assert fingerprint(by(clip, GLASSES).network) == prints[0]


def test_text_encoders_are_not_kept_and_features_are_the_images_embeddings(folder: Path) -> None:
    oracle, x = by(folder), smooth()
    module = oracle.network.module
    assert isinstance(module, WordsNetwork)
    assert not [name for name, _ in module.named_parameters() if "text_" in name]
    features = OracleFeatures(oracle)(x)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(features @ module.head.weight.T, oracle.logits(x))


def test_the_configuration_says_which_oracle_it_is(clip: Path) -> None:
    config = WordsOracleConfig.model_validate({"words": GLASSES, "model": str(clip)})
    assert oracle_for(config, "cpu").attributes == ("glasses",)
    assert config.words["glasses"] == (("a face with glasses",), ("a face without glasses",))
    assert WordsOracleConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, "at least 1 item"),
        ({"hat": ["a hat"]}, "hat"),
        ({"hat": ["a hat", []]}, "at least 1 item"),
        ({"hat": ["a hat", "a hat"]}, "hat: 'a hat' is said of both its presence and its absence"),
        ("nosuch", "cfx has no vocabulary 'nosuch'; it has animals, "),
        ("nosuch.yaml", "there is no vocabulary file nosuch.yaml"),
    ],
)
def test_words_that_cannot_work_are_refused(words: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        WordsOracleConfig.model_validate({"words": words, "model": "portraits:words"})


def test_a_calibration_of_other_words_is_refused() -> None:
    with pytest.raises(ValidationError, match="calibration: hat is not among the words"):
        WordsOracleConfig.model_validate(
            {"words": GLASSES, "model": "portraits:words", "calibration": {"hat": {"slope": 1, "offset": 0}}}
        )


def test_a_prompt_that_is_too_long_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match="reads 16 tokens, and 'a a a a .* has more; say it in fewer words"):
        by(folder, {"hat": ["a " * 40, "a face"]})


def broken(folder: Path, tmp_path: Path, *missing: str) -> Path:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for name in missing:
        (copy / name).unlink()
    return copy


def test_a_folder_without_its_parts_is_refused(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model.safetensors: its weights are missing; copy or download the whole folder"):
        by(broken(clip, tmp_path, "model.safetensors"))
    with pytest.raises(UserError, match=r"has no preprocessor_config.json; copy or download the whole folder"):
        by(broken(clip, tmp_path / "other", "preprocessor_config.json"))
    with pytest.raises(UserError, match="nosuch is no folder; give a folder with config.json, or a hub id"):
        by(tmp_path / "nosuch")
    with pytest.raises(UserError, match="no image-text model 'portraits:nosuch'; it has portraits:words"):
        load_two_towers("portraits:nosuch")


def test_weights_of_another_shape_are_refused(clip: Path, tmp_path: Path) -> None:
    copy = broken(clip, tmp_path)
    settings = (copy / "config.json").read_text()
    (copy / "config.json").write_text(settings.replace('"projection_dim": 8', '"projection_dim": 12'))
    with pytest.raises(UserError, match=r"the weights in .* are not those of its config.json: .* mismatched"):
        by(copy)


def test_an_image_classifier_is_no_image_text_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds a ViT, which is no image-text model; .* CLIP or SigLIP"):
        by(write_pretrained(tmp_path))


def test_a_model_of_the_hub_that_cannot_be_had_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(UserError, match=r"openai/clip-vit-base-patch32 is neither a folder .* `hf download openai/clip"):
        load_two_towers("openai/clip-vit-base-patch32")


def test_without_transformers_the_extra_is_named(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'cfx-audit\[hf\]'"):
        by(clip)


@pytest.mark.parametrize("name", sorted(vocabularies()))
def test_a_vocabulary_is_well_formed(name: str) -> None:
    config = WordsOracleConfig.model_validate({"words": name, "model": "portraits:words"})
    assert 10 <= len(config.words) <= 20
    assert all(np.array([attribute == attribute.lower(), " " not in attribute]).all() for attribute in config.words)
    prompts = [prompt for sides in config.words.values() for side in sides for prompt in side]
    assert all(prompt == prompt.strip() and len(prompt.split()) >= 2 for prompt in prompts)
    assert len(set(config.words.values())) == len(config.words)


def test_a_vocabulary_of_ones_own_is_a_file(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        vocabularies()["faces"].read_text(encoding="utf-8") + "\nscarf: [a person with a scarf, a person without one]\n"
    )
    assert read_vocabulary(str(own)) == {**read_vocabulary("faces"), "scarf": ["a person with a scarf", "a person without one"]}
    own.write_text(own.read_text() + "hat: [a hat, no hat]\n")
    with pytest.raises(UserError, match="'hat' stands twice, in line .* keep one"):
        read_vocabulary(str(own))
    own.write_text("- hat\n")
    with pytest.raises(UserError, match="holds no words; write one line an attribute"):
        read_vocabulary(str(own))
    own.write_text("hat: [a\n")
    with pytest.raises(UserError, match="own.yaml: line 2, column 1"):
        read_vocabulary(str(own))
