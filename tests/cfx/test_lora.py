"""Low-rank weights are added as diffusers adds them, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from cfx.diffusion.latent_model import Conditioning, Parts
from cfx.diffusion.pipelines import load_latent_model
from cfx.errors import UserError
from tests.cfx.tiny_pipelines import write

peft = pytest.importorskip("peft")
ASKED, Z, T = Conditioning(prompt="a portrait with smile"), torch.randn(1, 4, 8, 8), torch.tensor([300])
QUERY = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pipelines, and low-rank weights of the first: of its UNet (rank 2, alpha 4) alone, and of its text encoder, too."""
    base = tmp_path_factory.mktemp("lora")
    for kind in ("stable_diffusion", "flux", "stable_diffusion_xl", "pixart"):
        write(base / kind, kind)
    unet = diffusers.StableDiffusionPipeline.from_pretrained(base / "stable_diffusion").unet
    unet.add_adapter(peft.LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False))
    layers = diffusers.utils.convert_state_dict_to_diffusers(peft.utils.get_peft_model_state_dict(unet))
    diffusers.StableDiffusionPipeline.save_lora_weights(base / "unet-alone", layers)
    chance = torch.Generator().manual_seed(4)
    text = {
        f"{QUERY}.{part}.weight": torch.randn(shape, generator=chance) for part, shape in (("down", (2, 16)), ("up", (16, 2)))
    }
    (base / "both").mkdir()
    save_file(load_file(base / "unet-alone" / "pytorch_lora_weights.safetensors") | text, base / "both" / "any-name.safetensors")
    return base


@torch.no_grad()
@pytest.mark.parametrize("weights", ["unet-alone", "both"])
def test_low_rank_weights_are_added_as_diffusers_adds_them(weights: str, made: Path) -> None:
    (file,) = (made / weights).iterdir()
    source = str(made / "stable_diffusion")
    theirs: Any = diffusers.StableDiffusionPipeline.from_pretrained(source)
    theirs.load_lora_weights(str(file.parent), weight_name=file.name)
    theirs.set_adapters(theirs.get_active_adapters(), 0.7)
    prompt = theirs.encode_prompt(ASKED.prompt, "cpu", 1, False)[0]
    model = load_latent_model(source, None, ASKED, parts=Parts(lora=(str(made / weights), 0.7)))
    expected = theirs.unet(Z, T, encoder_hidden_states=prompt).sample
    torch.testing.assert_close(model.network(Z, T), expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(load_latent_model(source, None, ASKED).network(Z, T), expected, atol=1e-3)
    assert not any("lora" in name for name in model.network.state_dict())
    assert model.text is not None
    later = theirs.encode_prompt("a photo", "cpu", 1, False)[0]  # by the same text encoder as the first prompt
    found = model.text.conditioned(("a photo",))(Z, T)
    torch.testing.assert_close(found, theirs.unet(Z, T, encoder_hidden_states=later).sample, atol=1e-5, rtol=1e-4)


def test_low_rank_weights_of_another_model_are_refused(made: Path, tmp_path: Path) -> None:
    mine = made / "unet-alone" / "pytorch_lora_weights.safetensors"
    save_file({**load_file(mine), "unet.nowhere.lora_A.weight": torch.ones(2, 2)}, tmp_path / "more.safetensors")
    for kind, weights, error, words in (
        ("flux", mine, UserError, "holds 16 low-rank layers, of which 0 fit FluxPipeline; it was made for another model"),
        ("stable_diffusion_xl", mine, UserError, "does not fit StableDiffusionXLPipeline: .*size mismatch"),
        ("stable_diffusion", tmp_path / "more.safetensors", UserError, "holds 17 low-rank layers, of which 16 fit"),
        ("pixart", mine, UserError, "PixArtAlphaPipeline takes no low-rank weights"),
        ("stable_diffusion", made / "stable_diffusion" / "unet", UserError, "does not fit StableDiffusionPipeline"),
        ("stable_diffusion", made / "stable_diffusion", FileNotFoundError, "should hold one .safetensors"),
        ("stable_diffusion", made / "x.safetensors", FileNotFoundError, "there are no low-rank weights at"),
        ("stable_diffusion", made / "x.bin", UserError, "is no .safetensors"),
    ):
        with pytest.raises(error, match=words):
            load_latent_model(str(made / kind), None, ASKED, parts=Parts(lora=(str(weights), 1.0)))
