"""Checkpoints of a training: a killed one goes on from the last of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from cfx.errors import UserError
from cfx.scratch import held
from cfx.types import Config


@dataclass(frozen=True)
class Checkpoint:
    """One file: the step reached, the states of what is trained, and the configuration that they belong to."""

    path: Path
    config: Config

    def restore(self, device: str = "cpu", **parts: nn.Module | Optimizer) -> int:
        """Give each part (network, optimizer, ...) its state back and return the step reached; 0 if nothing was kept.

        Raises UserError for a file of another configuration.
        """
        if not self.path.is_file():
            return 0
        state = torch.load(self.path, weights_only=True, map_location=device)
        if state["config"] != self.config.model_dump_json():
            raise UserError(f"{self.path} belongs to another configuration; delete it, or train to another path")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return int(state["step"])

    def keep(self, step: int, **parts: nn.Module | Optimizer) -> None:
        """Write, then rename: a kill leaves the previous checkpoint or the next, never half of one."""
        states = {name: part.state_dict() for name, part in parts.items()}
        making = self.path.with_name(f".{self.path.name}.making")
        with held(making) as mine:
            if mine:  # or another process trains the same, and is just writing this file
                torch.save({"config": self.config.model_dump_json(), "step": step} | states, making / self.path.name)
                os.replace(making / self.path.name, self.path)
