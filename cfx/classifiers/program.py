"""Networks that were saved with their code: TorchScript (torch.jit.save) and torch.export. They need no `module`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from cfx.weights_file import PROGRAMS, kind_of, read_program


class Program(nn.Module):
    """(B, C, H, W), normalised, to whatever the program answers; it is run as it was saved, in its own mode."""

    file_hash: Tensor  # 32 bytes: SHA-256 of the file. Equal weights with other code are another network

    def __init__(self, network: nn.Module, file_hash: bytes) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("file_hash", torch.tensor(list(file_hash), dtype=torch.uint8))

    def train(self, mode: bool = True) -> Self:
        """Remembers the mode; a program of torch.export has but one and refuses to be told."""
        self.training = mode
        if isinstance(self.network, torch.jit.ScriptModule):
            self.network.train(mode)
        return self

    def forward(self, x: Tensor) -> object:
        """x (B, C, H, W), normalised, to the program's answer."""
        return self.network(x)


def is_program(path: Path) -> bool:
    """Whether the file holds a network's code beside its weights. Raises what `kind_of` raises."""
    return kind_of(path) in PROGRAMS


def load_program(path: Path, allow_pickle: bool) -> Program:
    """The network in the file. Raises UserError for one that does not load or that takes no batch of two, or unless
    `allow_pickle`: it runs what its maker wrote."""
    return Program(read_program(path, allow_pickle), hashlib.sha256(path.read_bytes()).digest())
