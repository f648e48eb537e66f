"""A plain ViT of the same shape as a HiT, to compare with: timm's, without pooling."""

from __future__ import annotations

from collections.abc import Mapping

from timm.models.vision_transformer import VisionTransformer

from cfx.networks.hit import HiTShape


def vit(
    outputs: int, shape: HiTShape | Mapping[str, object], attention_dropout: float = 0.0, drop_path: float = 0.0
) -> VisionTransformer:
    """timm's ViT with the patches, width, heads and number of layers of `shape`; its blocks are joined into one."""
    shape = HiTShape.model_validate(shape)
    return VisionTransformer(
        img_size=shape.size,
        patch_size=shape.patch,
        num_classes=outputs,
        embed_dim=shape.width,
        depth=sum(shape.blocks),
        num_heads=shape.heads,
        attn_drop_rate=attention_dropout,
        drop_path_rate=drop_path,
    )
