"""Tiny image-text models with random weights, in folders as `save_pretrained` writes them: CLIP and SigLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from cfx.diffusion.text_to_image import word_tokenizer

WORDS = ("a", "face", "with", "without", "glasses", "hat", "wearing", "photo")
SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
LENGTH = 16


def write_image_text(folder: Path, kind: str = "clip") -> Path:
    """Write a model of images of 32 x 32, its tokenizer and its processor. SigLIP squeezes to a square, CLIP cuts one out."""
    tokenizer: Any = word_tokenizer(folder, WORDS, LENGTH)
    ends = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": LENGTH, **ends, **SHAPE}
    vision = {"image_size": 32, "patch_size": 8, **SHAPE}
    torch.manual_seed(0)
    if kind == "clip":
        model: Any = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
        processor: Any = transformers.CLIPImageProcessor(
            size={"shortest_edge": 32},
            crop_size={"height": 32, "width": 32},
            image_mean=[0.5, 0.4, 0.3],
            image_std=[0.2, 0.25, 0.3],
        )
    else:
        model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
        processor = transformers.SiglipImageProcessor(size={"height": 32, "width": 32}, resample=2)
    for weight in model.parameters():  # as they come, all images and texts are embedded alike
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=1.5 * weight[0].numel() ** -0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
