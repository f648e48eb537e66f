"""Tiny image classifiers of Hugging Face's transformers, in folders as `save_pretrained` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

NAMES = {0: "cat", 1: "dog", 2: "fox"}
KINDS: dict[str, tuple[type[Any], dict[str, Any], type[Any], dict[str, Any]]] = {
    "vit": (
        transformers.ViTForImageClassification,
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "patch_size": 8},
        transformers.ViTImageProcessor,
        {"size": {"height": 32, "width": 32}},
    ),
    "resnet": (
        transformers.ResNetForImageClassification,
        {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"},
        transformers.ConvNextImageProcessor,
        {
            "size": {"shortest_edge": 32},
            "crop_pct": 0.875,
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
        },
    ),
    "convnext": (
        transformers.ConvNextForImageClassification,
        {"hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2},
        transformers.ConvNextImageProcessor,
        {"size": {"shortest_edge": 48}, "crop_pct": 0.95},
    ),
    "mobilevit": (
        transformers.MobileViTForImageClassification,
        {"hidden_sizes": [16, 16, 16], "neck_hidden_sizes": [8, 8, 8, 16, 16, 16, 16], "num_attention_heads": 2},
        transformers.MobileViTImageProcessor,
        {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}},
    ),
}


def write_pretrained(folder: Path, kind: str = "vit", preprocessor: bool = True, **settings: Any) -> Path:
    """Write a classifier of random weights; `settings` go to its configuration."""
    make, sizes, process, shown = KINDS[kind]
    names = settings.pop("id2label", NAMES)
    torch.manual_seed(0)
    config = make.config_class(
        **{"image_size": 32, "id2label": names, "label2id": {name: i for i, name in names.items()}} | sizes | settings
    )
    network = make(config)
    for weight in network.parameters():  # as they come, all images are answered alike
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=1.5 * weight[0].numel() ** -0.5)
    network.save_pretrained(folder)
    if preprocessor:
        process(**shown).save_pretrained(folder)
    return folder
