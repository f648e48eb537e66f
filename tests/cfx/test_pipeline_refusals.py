"""What cannot be a prior is refused by name, before work, with the way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cfx.diffusion.latent_model import Conditioning, Parts
from cfx.diffusion.pipelines import load_latent_model, pipeline_fingerprint
from cfx.errors import UserError
from tests.cfx.tiny_pipelines import conditional_unet, write

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pipelines, each written once."""
    base = tmp_path_factory.mktemp("refused")
    for kind in ("stable_diffusion", "flux", "dit", "pixels_of_classes", "latent_diffusion"):
        write(base / kind, kind)
    return base


def copied(made: Path, to: Path, kind: str = "stable_diffusion") -> Path:
    return Path(shutil.copytree(made / kind, to / "model"))


def changed(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


CLASSES = {
    "StableDiffusionInpaintPipeline": "fills a hole in an image",
    "FluxFillPipeline": "fills a hole in an image",
    "StableDiffusionXLControlNetPipeline": "draws along a second image",
    "FluxControlPipeline": "draws along a second image",
    "StableVideoDiffusionPipeline": "draws videos",
    "AnimateDiffPipeline": "draws videos",
    "WanPipeline": "draws videos",
    "IFPipeline": "is a cascade of several diffusion models",
    "StableDiffusionUpscalePipeline": "enlarges images",
    "StableDiffusionXLImg2ImgPipeline": "changes an image that it reads",
    "StableDiffusionInstructPix2PixPipeline": "changes an image that it reads",
    "AudioLDM2Pipeline": "makes sound",
    "AuraFlowPipeline": "is not known here",
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_pipeline_that_is_no_prior_says_what_it_is_and_what_can_be(name: str, tmp_path: Path) -> None:
    assert hasattr(diffusers, name)  # a class that there is
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name, "vae": ["diffusers", "AutoencoderKL"]}))
    with pytest.raises(UserError, match=f"model_index.json: {name} {CLASSES[name]}.*; what can be a prior: StableDiffusionP"):
        load_latent_model(str(tmp_path))


def inpainting(folder: Path) -> None:
    shutil.rmtree(folder / "unet")
    conditional_unet(in_channels=9).save_pretrained(folder / "unet")


def of_noise_levels(folder: Path) -> None:
    shutil.rmtree(folder / "unet")
    conditional_unet(num_class_embeds=1000).save_pretrained(folder / "unet")


def pickled(folder: Path) -> None:
    (folder / "unet" / WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.bin")


def code_of_a_folder(folder: Path) -> None:
    changed(folder / "model_index.json", vae=["os", "system"])


def pipeline_with_code(folder: Path) -> None:
    changed(folder / "model_index.json", _class_name=["mine", "Pipeline"])


def unknown_process(folder: Path) -> None:
    (folder / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "EDMEulerScheduler"}')


def no_autoencoder(folder: Path) -> None:
    changed(folder / "model_index.json", vae=[None, None])


def quantised(folder: Path) -> None:
    changed(folder / "unet" / "config.json", quantization_config={"bits": 4})


def of_tomorrow(folder: Path) -> None:
    changed(folder / "vae" / "config.json", temporal_layers=2)


def spoiled(file: str, spoil: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        weights = load_file(folder / file)
        spoil(weights)
        save_file(weights, folder / file, {"format": "pt"})

    return change


def not_finite(weights: dict[str, Tensor]) -> None:
    next(iter(weights.values())).view(-1)[0] = torch.nan


FOLDERS: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "inpainting": (inpainting, "unet reads 9 channels, but a latent has 4: inpainting networks read a mask"),
    "an upscaler's UNet": (of_noise_levels, "num_class_embeds is 1000, so that it reads more than a StableDiffusionPipeline"),
    "a pickle": (pickled, "holds diffusion_pytorch_model.bin, but no .safetensors.*convert the folder"),
    "a module of the folder's choice": (code_of_a_folder, "vae is system of 'os'; parts of diffusers and transformers alone"),
    "a pipeline with code": (pipeline_with_code, "a pipeline with code of its own, which is not run"),
    "another process": (unknown_process, "'EDMEulerScheduler', which is no scheduler of a DDPM; there are DDPM.*FlowMatchEuler"),
    "no autoencoder": (no_autoencoder, "StableDiffusionPipeline has no vae"),
    "quantised": (quantised, "its weights are quantised"),
    "a field of a newer diffusers": (of_tomorrow, "temporal_layers is 2, which AutoencoderKL of this diffusers does not know"),
    "a weight is missing": (
        spoiled(f"vae/{WEIGHTS}", lambda found: found.pop("decoder.conv_in.bias")),
        "conv_in.bias is missing",
    ),
    "a weight too many": (spoiled(f"vae/{WEIGHTS}", lambda found: found.update(more=torch.ones(1))), "vae: more is unexpected"),
    "NaN in a text encoder": (spoiled("text_encoder/model.safetensors", not_finite), "text_encoder: .* is not finite"),
}


@pytest.mark.parametrize(("spoil", "words"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_cannot_be_read_to_the_letter_is_refused(
    spoil: Callable[[Path], None], words: str, made: Path, tmp_path: Path
) -> None:
    folder = copied(made, tmp_path)
    spoil(folder)
    with pytest.raises(UserError, match=words):
        load_latent_model(str(folder))


ASKED: Mapping[str, tuple[str, dict[str, Any], str]] = {
    "a class of prompts": ("stable_diffusion", {"label": 3}, "reads prompts; set `prompt` instead"),
    "a prompt of classes": ("dit", {"prompt": "zebra"}, "a DiTPipeline reads none; leave it out"),
    "a name of two classes": ("dit", {"label": "crane"}, "2 classes of .* are called so; set one of 1, 2"),
    "no such name": ("dit", {"label": "dog"}, "no class of .* is called so; set a number, 0 to 999"),
    "no such class": ("dit", {"label": 1000}, "label is 1000, but the classes of .* are 0 to 999"),
    "guidance to no class": ("dit", {"guidance": 4.0}, "there is nothing to lead away from or to: no `label` is set"),
    "a class is needed": ("pixels_of_classes", {}, "draws 5 classes, and was not trained without one; set `label` .0 to 4"),
    "guidance without an empty class": ("pixels_of_classes", {"label": 1, "guidance": 2.0}, "not trained without a class"),
    "a class of none": ("latent_diffusion", {"label": 1}, "knows no classes"),
    "guidance from a prompt to itself": ("stable_diffusion", {"guidance": 7.5}, "both are ''; set `prompt`"),
    "a negative prompt of a distilled model": (
        "flux",
        {"prompt": "a star", "negative_prompt": "plain", "guidance": 3.5},
        "negative_prompt is 'plain', but .* knows no negative prompt",
    ),
    "too many words": (
        "stable_diffusion",
        {"prompt": "star " * 60},
        "a prompt takes 62 tokens, but .* reads 32; use fewer words",
    ),
}


@pytest.mark.parametrize(("kind", "asked", "words"), ASKED.values(), ids=ASKED)
def test_what_a_model_cannot_be_asked_is_refused(kind: str, asked: dict[str, Any], words: str, made: Path) -> None:
    with pytest.raises(UserError, match=words):
        load_latent_model(str(made / kind), None, Conditioning(**asked))


def test_a_negative_prompt_without_guidance_has_no_effect_and_is_refused() -> None:
    with pytest.raises(ValueError, match="without guidance it has no effect; set `guidance` above 1"):
        Conditioning(negative_prompt="plain")


def test_where_there_is_no_model(made: Path, tmp_path: Path) -> None:
    for source, revision, kind, words in (
        (tmp_path / "nowhere", None, FileNotFoundError, "give a folder, or a hub id"),
        ("portraits:nothing", None, FileNotFoundError, "there are portraits:flow, portraits:prior, portraits:text"),
        (tmp_path, None, FileNotFoundError, "there is no pipeline in .*turn a single file into one with `cfx import-prior`"),
        (made / "dit", "main", UserError, "revision is 'main', but .* is a folder, which has none"),
    ):
        with pytest.raises(kind, match=words):
            load_latent_model(str(source), revision)


def test_half_precision_is_read_as_float32(made: Path, tmp_path: Path) -> None:
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(made / "stable_diffusion", dtype=torch.float16)
    pipeline.save_pretrained(tmp_path, variant="fp16")
    half, whole = (load_latent_model(str(folder)) for folder in (tmp_path, made / "stable_diffusion"))
    z, t = torch.randn(1, 4, 8, 8), torch.tensor([200])
    assert half.network(z, t).dtype == torch.float32
    torch.testing.assert_close(half.network(z, t), whole.network(z, t), atol=3e-3, rtol=0)


def test_a_tiny_decoder_and_a_fine_tuned_network_stand_in(made: Path, tmp_path: Path) -> None:
    blocks = {"encoder_block_out_channels": (8,) * 3, "decoder_block_out_channels": (8,) * 3}
    layers = {"num_encoder_blocks": (1,) * 3, "num_decoder_blocks": (1,) * 3}
    tiny = diffusers.AutoencoderTiny(**blocks, **layers).eval()
    tiny.save_pretrained(tmp_path / "taesd")
    own = str(made / "stable_diffusion")
    model = load_latent_model(own, parts=Parts(decoder=str(tmp_path / "taesd")))
    z, x = torch.randn(1, 4, 8, 8), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        plain = load_latent_model(own)
        torch.testing.assert_close(model.autoencoder.sketch(z), tiny.decode(z).sample)
        torch.testing.assert_close(model.autoencoder.decode(z), plain.autoencoder.decode(z))
        torch.testing.assert_close(plain.autoencoder.sketch(z), plain.autoencoder.decode(z))
        torch.testing.assert_close(model.autoencoder.encode(x), plain.autoencoder.encode(x))
        torch.manual_seed(5)
        conditional_unet().save_pretrained(tmp_path / "tuned" / "unet")
        tuned = load_latent_model(own, parts=Parts(network=str(tmp_path / "tuned")))
        assert not torch.allclose(tuned.network(z, torch.tensor([9])), plain.network(z, torch.tensor([9])))
    assert len({pipeline_fingerprint(own, parts=parts) for parts in (Parts(), Parts(decoder=str(tmp_path / "taesd")))}) == 2
    diffusers.AutoencoderTiny(latent_channels=4).save_pretrained(tmp_path / "of 8 pixels")
    with pytest.raises(UserError, match="for latents of 4 channels, 8 pixels a side; this model's have 4 and 4"):
        load_latent_model(own, parts=Parts(decoder=str(tmp_path / "of 8 pixels")))
