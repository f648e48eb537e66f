"""An audit that is whole and small: eight portraits of 16 pixels, a prior of a few thousand weights, a user's own networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import nn

from cfx.checkpoint import save_network
from cfx.diffusion.ddpm import Schedule, save_ddpm
from cfx.portraits import write_portraits

SIDE = 16
NETWORK = """
from torch import nn

from layers import pooled


class Net(nn.Module):
    def __init__(self, outputs=2):
        super().__init__()
        self.last = nn.Linear(3, outputs)

    def forward(self, x):
        return self.last(pooled(x))
"""
LAYERS = """
def pooled(x):
    return x.mean((2, 3))
"""


class Pooled(nn.Module):
    """The same weights as the user's."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.last = nn.Linear(3, outputs)


def lay_out(home: Path) -> None:
    """Eight portraits, a prior of 16 pixels, and a user's own module with its weights."""
    write_portraits(home / "data", 8, seed=1)
    torch.manual_seed(0)
    kinds = {"block_out_channels": (8, 8), "norm_num_groups": 4, "layers_per_block": 1}
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    save_ddpm(home / "prior", UNet2DModel(sample_size=SIDE, **kinds, **blocks, add_attention=False).eval(), Schedule())
    for name, outputs in (("classifier", 2), ("oracle", 3)):
        save_network(home / f"{name}.safetensors", Pooled(outputs), {})
    (home / "identity_net.py").write_text(NETWORK)
    (home / "layers.py").write_text(LAYERS)


def settings(home: Path) -> dict[str, Any]:
    own = {"module": "identity_net:Net", "input_size": SIDE}
    return {
        "name": "trial",
        "warehouse": home / "warehouse",
        "data": {"images": home / "data/images", "table": home / "data/attributes.csv", "label_column": "label", "size": SIDE},
        "classifier": own | {"weights": home / "classifier.safetensors", "classes": ("not_smiling", "smiling")},
        "oracle": own
        | {"weights": home / "oracle.safetensors", "kwargs": {"outputs": 3}, "attributes": ("smile", "glasses", "hat")},
        "prior": {"path": str(home / "prior")},
        "ladder": [{"method": "fastdime", "steps": 5, "tau": 1}],
        "interventions": {"steps": 5, "tau": 2, "scale": 50.0, "images": 2},
        "saliency": None,
        "device": "cpu",
    }
