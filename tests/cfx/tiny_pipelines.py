"""A folder of every pipeline class that can be a prior, in its real format, with random weights: images of 32 x 32 or 64 x 64."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from cfx.diffusion.text_to_image import word_tokenizer

WORDS = ("a", "photo", "with", "smile", "serious", "portrait", "realistic", "plain", "star")
WIDTH, LENGTH, LATENTS, BLOCKS = 16, 32, 4, 3  # BLOCKS of an autoencoder: latents of 4 pixels a side
NAMES = {"0": "tench, Tinca tinca", "1": "crane", "2": "crane", "3": "zebra"}  # of DiT's first classes
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1}


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's, with one token a word of WORDS."""
    return word_tokenizer(folder.with_name(f"{folder.name}-tokenizer"), WORDS, LENGTH)


def clip(tokenizer: CLIPTokenizer, projected: bool = False) -> CLIPTextModel | CLIPTextModelWithProjection:
    """One layer of CLIP's text encoder."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModelWithProjection(config) if projected else CLIPTextModel(config)


def t5_tokenizer() -> T5Tokenizer:
    """T5's, of WORDS and single letters."""
    letters = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return T5Tokenizer(
        vocab=special + [(f"▁{word}", -3.0) for word in WORDS[1:]] + [(letter, -6.0) for letter in letters], extra_ids=0
    )


def t5(tokenizer: T5Tokenizer) -> T5EncoderModel:
    """One layer of T5's encoder."""
    config = T5Config(
        vocab_size=len(tokenizer), d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    )
    return T5EncoderModel(config)


def gemma_tokenizer() -> GemmaTokenizer:
    """Gemma's, of single characters."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    return GemmaTokenizer(vocab={word: i for i, word in enumerate([*special, *bytes_, "▁"])}, merges=[], model_max_length=4096)


def gemma(tokenizer: GemmaTokenizer) -> Gemma2Model:
    """One layer of Gemma 2."""
    return Gemma2Model(
        Gemma2Config(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            max_position_embeddings=4096,
        )
    )


def autoencoder(channels: int = LATENTS, **more: Any) -> diffusers.AutoencoderKL:
    """Latents of 4 pixels a side."""
    return diffusers.AutoencoderKL(
        block_out_channels=(8,) * BLOCKS,
        down_block_types=("DownEncoderBlock2D",) * BLOCKS,
        up_block_types=("UpDecoderBlock2D",) * BLOCKS,
        norm_num_groups=4,
        latent_channels=channels,
        **more,
    )


def conditional_unet(**more: Any) -> diffusers.UNet2DConditionModel:
    """Stable Diffusion's UNet for latents of 8 x 8."""
    settings: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 8,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    return diffusers.UNet2DConditionModel(**settings | more)


def plain_unet(channels: int, side: int, **more: Any) -> diffusers.UNet2DModel:
    """A UNet without prompt."""
    return diffusers.UNet2DModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        **more,
    )


def stable_diffusion(folder: Path, unet: Mapping[str, Any] | None = None, **scheduler: Any) -> diffusers.StableDiffusionPipeline:
    """Stable Diffusion 1.x; of `prediction_type` v_prediction or sample 2.x and others."""
    words = clip_tokenizer(folder)
    noise = diffusers.DDIMScheduler(set_alpha_to_one=False, **NOISE | scheduler)
    parts = (autoencoder(), clip(words), words, conditional_unet(**unet or {}), noise, None, None)
    return diffusers.StableDiffusionPipeline(*parts, requires_safety_checker=False)


def consistency(folder: Path) -> diffusers.LatentConsistencyModelPipeline:
    """A latent consistency model, which reads the scale of its guidance."""
    words = clip_tokenizer(folder)
    noise = diffusers.LCMScheduler(beta_start=0.00085, beta_end=0.012, original_inference_steps=50)
    parts = (autoencoder(), clip(words), words, conditional_unet(time_cond_proj_dim=32), noise, None, None)
    return diffusers.LatentConsistencyModelPipeline(*parts, requires_safety_checker=False)


def stable_diffusion_xl(folder: Path) -> diffusers.StableDiffusionXLPipeline:
    """Two CLIPs, sizes beside the prompt."""
    words = clip_tokenizer(folder)
    unet = conditional_unet(
        cross_attention_dim=2 * WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
    )
    noise = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    parts = (autoencoder(scaling_factor=0.13025), clip(words), clip(words, projected=True), words, words, unet, noise)
    return diffusers.StableDiffusionXLPipeline(*parts)


def stable_diffusion_3(folder: Path, with_t5: bool = True) -> diffusers.StableDiffusion3Pipeline:
    """Flow matching; T5 may be left out."""
    words = clip_tokenizer(folder)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=LATENTS,
        out_channels=LATENTS,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    wide = T5Config(vocab_size=64, d_model=2 * WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu")
    pieces = t5_tokenizer()
    return diffusers.StableDiffusion3Pipeline(
        transformer,
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        autoencoder(scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        clip(words, projected=True),
        words,
        clip(words, projected=True),
        words,
        T5EncoderModel(wide) if with_t5 else None,
        pieces if with_t5 else None,
    )


def flux(folder: Path, dev: bool = True) -> diffusers.FluxPipeline:
    """Packed latents, rotary positions; dev reads the scale of its guidance, schnell does not."""
    words, pieces = clip_tokenizer(folder), t5_tokenizer()
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=4 * LATENTS,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=dev,
        axes_dims_rope=(4, 4, 8),
    )
    noise = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0 if dev else 1.0, use_dynamic_shifting=dev)
    vae = autoencoder(scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False, sample_size=32)
    return diffusers.FluxPipeline(noise, vae, clip(words), words, t5(pieces), pieces, transformer)


def sana(folder: Path) -> diffusers.SanaPipeline:
    """Linear attention over deeply compressed latents; flow matching by a scheduler that is of noise in steps, too."""
    letters = gemma_tokenizer()
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=LATENTS,
        out_channels=LATENTS,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=WIDTH,
        sample_size=8,
        patch_size=1,
    )
    vae = diffusers.AutoencoderDC(
        latent_channels=LATENTS,
        attention_head_dim=4,
        encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (), (5,)),
        upsample_block_type="interpolate",
        downsample_block_type="Conv",
        scaling_factor=0.41407,
    )
    noise = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return diffusers.SanaPipeline(letters, gemma(letters), vae, transformer, noise)


def pixart(folder: Path) -> diffusers.PixArtAlphaPipeline:
    """A transformer that reads T5 and answers a variance, too."""
    pieces = t5_tokenizer()
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=LATENTS,
        out_channels=2 * LATENTS,
        num_layers=1,
        norm_num_groups=4,
        cross_attention_dim=16,
        sample_size=8,
        caption_channels=WIDTH,
        use_additional_conditions=False,
    )
    noise = diffusers.DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    return diffusers.PixArtAlphaPipeline(pieces, t5(pieces), autoencoder(), transformer, noise)


def dit(folder: Path, flow: bool = False) -> diffusers.DiTPipeline:
    """A thousand classes and the empty one; of flow matching it is SiT."""
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=LATENTS,
        out_channels=LATENTS if flow else 2 * LATENTS,
        num_layers=1,
        norm_num_groups=4,
        sample_size=8,
        num_embeds_ada_norm=1000,  # diffusers' own pipeline knows no other number
    )
    noise: Any = diffusers.FlowMatchEulerDiscreteScheduler() if flow else diffusers.DDIMScheduler(clip_sample=False)
    return diffusers.DiTPipeline(transformer, autoencoder(), noise)


def latent_diffusion(folder: Path) -> diffusers.LDMPipeline:
    """Of one kind of images, with a codebook."""
    codes = diffusers.VQModel(
        block_out_channels=(8,) * BLOCKS,
        down_block_types=("DownEncoderBlock2D",) * BLOCKS,
        up_block_types=("UpDecoderBlock2D",) * BLOCKS,
        norm_num_groups=4,
        latent_channels=3,
        num_vq_embeddings=32,
    )
    noise = diffusers.DDIMScheduler(**NOISE)
    return diffusers.LDMPipeline(codes, plain_unet(3, 8), noise)


def pixels_of_classes(folder: Path) -> diffusers.DDPMPipeline:
    """A UNet of pixels that needs a class."""
    return diffusers.DDPMPipeline(plain_unet(3, 16, num_class_embeds=5), diffusers.DDPMScheduler())


def pixel_flow(folder: Path) -> diffusers.DDPMPipeline:
    """A plain UNet of pixels, trained by flow matching."""
    return diffusers.DDPMPipeline(plain_unet(3, 16), diffusers.FlowMatchEulerDiscreteScheduler())


MAKERS: Mapping[str, Callable[[Path], Any]] = {
    "stable_diffusion": stable_diffusion,
    "velocity": lambda folder: stable_diffusion(folder, prediction_type="v_prediction"),
    "consistency": consistency,
    "stable_diffusion_xl": stable_diffusion_xl,
    "stable_diffusion_3": stable_diffusion_3,
    "flux": flux,
    "schnell": lambda folder: flux(folder, dev=False),
    "sana": sana,
    "pixart": pixart,
    "dit": dit,
    "sit": lambda folder: dit(folder, flow=True),
    "latent_diffusion": latent_diffusion,
    "pixels_of_classes": pixels_of_classes,
    "pixel_flow": pixel_flow,
}


def write(folder: Path, kind: str) -> Path:
    """Make the pipeline of this kind and save it. A transformer's last layer, zeros at first, is drawn as well."""
    torch.manual_seed(0)
    pipeline = MAKERS[kind](folder)
    for part in ("unet", "transformer"):
        if network := getattr(pipeline, part, None):
            for weight in network.parameters():
                if not weight.any():
                    torch.nn.init.normal_(weight.data, std=0.1)
    pipeline.save_pretrained(folder)
    if kind == "dit":  # as facebook/DiT-XL-2-256 has it; save_pretrained leaves it out
        index = folder / "model_index.json"
        index.write_text(json.dumps(json.loads(index.read_text()) | {"id2label": NAMES}))
    return folder
