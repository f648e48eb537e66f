"""Encoders: images (B, 3, H, W) in [-1, 1] to feature vectors (B, D). A metric is named after the one that it sees with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from cfx.attributes.oracle import Oracle
from cfx.errors import UserError
from cfx.networks.inception import load_inception
from cfx.networks.simsiam import load_simsiam
from cfx.networks.vggface2 import load_vggface2

Encoder: TypeAlias = Callable[[Tensor], Tensor]

# Each reads the published file of its weights and prepares images as that network was trained to see them.
LOADERS: dict[str, Callable[[Path, torch.device | str], nn.Module]] = {
    "inception": load_inception,
    "vggface2": load_vggface2,
    "simsiam": load_simsiam,
}


class OracleFeatures:
    """What the oracle's last linear layer reads: its own view of an image, before it names attributes.

    Raises UserError for an oracle without a linear layer, or whose last one does not read one vector an image.
    """

    def __init__(self, oracle: Oracle) -> None:
        self._oracle, self._seen = oracle, threading.local()  # shards run side by side on one oracle
        linear = [part for part in oracle.network.modules() if isinstance(part, nn.Linear)]
        if not linear:
            raise UserError(f"{oracle.network.name} has no linear layer, so it has no features to compare sets with")
        for part in linear:
            part.register_forward_pre_hook(self._note)

    def _note(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen.last = inputs[0]  # of several layers the last to run is the one that stays

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] to features (B, D) float32. Raises UserError if that layer reads another shape."""
        self._oracle.logits(x)
        features: Tensor = self._seen.last
        if features.shape[:-1] != (len(x),):
            raise UserError(
                f"the last linear layer of {self._oracle.network.name} reads {tuple(features.shape)} of {len(x)} images; "
                "one vector an image is needed"
            )
        return features.float()
