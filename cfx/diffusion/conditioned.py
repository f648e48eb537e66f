"""A network together with all that it reads beside a latent and its timestep: prompt, class, guidance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cfx.diffusion.ddpm import halvings, mirrored
from cfx.diffusion.families import Family, Inputs


class Conditioned(nn.Module):
    """The model's network under a prompt or a class, guided: away + guidance (towards - away), both in one call   (Ho & Salimans
    2022, in the convention where 1 is no guidance).

    answer (B, C, h, w), float32 = network(z (B, C, h, w), timesteps (B,)), whatever the network's own precision. Inputs are one
    row for all, or one for each of B.
    """

    def __init__(
        self,
        network: nn.Module,
        family: Family,
        channels: int,
        factor: int,
        towards: Inputs,
        away: Inputs | None = None,
        guidance: float = 1.0,
    ) -> None:
        """channels: of a latent; factor: pixels a latent's side; away: None without guidance."""
        super().__init__()
        self.network, self.family, self.channels, self.factor, self.guidance = network, family, channels, factor, guidance
        self.multiple = multiple_of(network, family)
        self.names = {kind: tuple(inputs) for kind, inputs in (("towards", towards), ("away", away or {}))}
        self.guided = away is not None
        for kind, inputs in (("towards", towards), ("away", away or {})):
            for name, value in inputs.items():
                self.register_buffer(f"{kind}_{name}", value, persistent=False)

    def forward(self, z: Tensor, timesteps: Tensor) -> Tensor:
        """What is predicted of z (B, C, h, w) at timesteps (B,); sides that the network cannot halve are mirrored at the edge."""
        padded = mirrored(z, self.multiple) if self.multiple > 1 else z
        kinds = ("away", "towards") if self.guided else ("towards",)
        parts = [self._inputs(kind, len(z)) for kind in kinds]
        inputs = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        dtype = next(self.network.parameters()).dtype
        seen, when = torch.cat([padded] * len(kinds)).to(dtype), torch.cat([timesteps] * len(kinds))
        out = self.family.answer(self.network, seen, when, inputs, self.factor)[:, : self.channels].float()
        if self.guided:
            here, there = out.chunk(2)
            out = here + self.guidance * (there - here)
        return out if padded is z else out[..., : z.shape[2], : z.shape[3]]

    def _inputs(self, kind: str, rows: int) -> dict[str, Tensor]:
        found = {name: getattr(self, f"{kind}_{name}") for name in self.names[kind]}
        return {name: value.expand(rows, *value.shape[1:]) for name, value in found.items()}


def multiple_of(network: nn.Module, family: Family) -> int:
    """What the sides of a latent must be a multiple of. A UNet2DConditionModel takes care of odd sides itself."""
    if family.network == "UNet2DModel":
        return int(2 ** halvings(network))
    patch = getattr(network, "config", {}).get("patch_size", 1) if family.part == "transformer" else 1
    return int(max(patch, family.packed))
