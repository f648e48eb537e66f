"""The oracle: one network that tells the probability of every attribute of an image."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from cfx.classifiers.network import Network, NetworkConfig, load_network
from cfx.errors import UserError


class OracleConfig(NetworkConfig):
    """The attribute network; its outputs are logits, one an attribute. `weights: portraits:oracle` comes with cfx."""

    attributes: tuple[str, ...] | None = Field(
        None, min_length=1, description="names in the order of the outputs; an oracle trained by cfx brings its own"
    )


class Oracle:
    """Images (B, 3, H, W) in [-1, 1] to attribute probabilities (B, A) float32, in the order of `attributes`."""

    def __init__(self, network: Network, attributes: tuple[str, ...]) -> None:
        self.network, self.attributes = network, attributes

    def logits(self, x: Tensor) -> Tensor:
        """The log-odds (B, A); gradients reach the image."""
        logits: Tensor = self.network(x)
        return logits

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] to probabilities (B, A) in [0, 1], float32; no gradient."""
        return self.logits(x).sigmoid()


def load_oracle(config: OracleConfig, device: torch.device | str = "cpu") -> Oracle:
    """The oracle, frozen. Raises FileNotFoundError, ImportError or UserError naming what does not fit.

    Examples:
        >>> oracle = load_oracle(OracleConfig(weights="portraits:oracle"))
        >>> oracle.attributes[:3], oracle(torch.zeros(2, 3, 64, 64)).shape
        (('smile', 'glasses', 'hat'), torch.Size([2, 10]))
    """
    network, facts = load_network(config, device)
    attributes, outputs = config.attributes or tuple(facts.get("attributes", ())), network.outputs()
    if not attributes:
        raise UserError(f"{network.name} does not say what its outputs mean; set `attributes`, in the order of its outputs")
    if len(attributes) != outputs:
        raise UserError(f"{network.name} gives {outputs} logits for {len(attributes)} attributes ({', '.join(attributes)})")
    if len(set(attributes)) < len(attributes):
        raise UserError(f"attributes {', '.join(attributes)}: every attribute needs a name of its own")
    return Oracle(network, attributes)
