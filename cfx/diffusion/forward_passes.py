"""A UNet's passes that need no gradient, in bfloat16, compiled by torch.compile, or both; the others are the UNet's own."""

from __future__ import annotations

import copy
import warnings
from threading import Lock
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cfx.diffusion.compiled import Plain
from cfx.errors import UserError

Precision = Literal["float32", "bfloat16"]
SHAPES = 64  # that one process may compile; torch's own limit is 8, of all networks of a kind together


class ForwardPasses(nn.Module):
    """A network from (B, C, H, W) float32 and (B,) timesteps to (B, C', H, W) float32.

    Passes that are differentiated through are the network's own. In bfloat16 the others are computed as autocast does, norms in
    float32 where it says so, with convolutions and matrix products from a copy of their weights. Compiled they are when a size
    of images is first seen, once for one image and once for all larger batches.

    Examples:
        A network that only multiplies needs more digits than bfloat16 has, 8 bits of significand:

        >>> class Third(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.by = nn.Linear(1, 1, bias=False)
        ...         self.by.weight.data.fill_(1 / 3)
        ...     def forward(self, z, timesteps):
        ...         return self.by(z)
        >>> z, timesteps = torch.ones(1, 1, 1, 1), torch.zeros(1, dtype=torch.long)
        >>> with torch.no_grad():
        ...     float(ForwardPasses(Third(), "bfloat16")(z, timesteps))
        0.333984375
    """

    def __init__(self, network: nn.Module, precision: Precision = "float32", compiled: bool = False) -> None:
        super().__init__()
        self.network, self.precision, self.compiled = network, precision, compiled
        passes = Autocast(network) if precision == "bfloat16" else Plain(network)
        self._passes: Any = torch.compile(passes, fullgraph=True) if compiled else passes
        self._shapes: set[tuple[object, ...]] = set()
        self._compiling = Lock()

    @property
    def config(self) -> Any:
        """What diffusers says of the network; empty for another."""
        return getattr(self.network, "config", {})

    def forward(self, z: Tensor, timesteps: Tensor) -> Any:
        """z (B, C, H, W) at original timesteps (B,) to the network's answer, (B, C', H, W). Raises UserError for a network that
        cannot be compiled."""
        if z.requires_grad and torch.is_grad_enabled():
            return self.network(z, timesteps)
        with torch.no_grad():
            return self._by_compiler(z, timesteps) if self.compiled else self._passes(z, timesteps)

    def _by_compiler(self, z: Tensor, timesteps: Tensor) -> Tensor:
        if len(z) > 1:
            for each in (z, timesteps):
                torch._dynamo.maybe_mark_dynamic(each, 0)
        shape = (len(z) > 1, *z.shape[1:], z.device)
        if shape in self._shapes:
            found: Tensor = self._passes(z, timesteps)
            return found
        with self._compiling, torch._dynamo.config.patch(recompile_limit=SHAPES), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on diffusers' code that help nobody here
            try:
                found = self._passes(z, timesteps)
            except Exception as error:  # of many kinds, by what the network is made of and what the machine lacks
                raise UserError(f"runtime: torch.compile cannot compile this UNet ({error}); leave `runtime` out") from error
            self._shapes.add(shape)
            return found


class Autocast(nn.Module):
    """A network in bfloat16 autocast, with a tensor for its answer, float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):  # autocast would convert them anew at every pass
                module.to(torch.bfloat16)

    def forward(self, z: Tensor, timesteps: Tensor) -> Tensor:
        with torch.autocast(z.device.type, torch.bfloat16):
            out = self.network(z, timesteps)
        answer: Tensor = out if isinstance(out, Tensor) else out.sample
        return answer.float()
