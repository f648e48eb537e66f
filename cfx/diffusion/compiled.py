"""A UNet compiled for this processor by ONNX Runtime, for the passes that need no gradient."""

from __future__ import annotations

import importlib.metadata
import io
import warnings
from threading import Lock
from typing import Any, cast

import torch
from torch import Tensor, nn

from cfx.errors import UserError


class Compiled(nn.Module):
    """A network from (B, C, H, W) float32 and (B,) timesteps to (B, C', H, W), on a CPU.

    Passes that are differentiated through are torch's. The others are ONNX Runtime's, on one thread, compiled when a shape is
    first seen: they differ from torch's by rounding, and not at all by what else is in the batch.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._sessions: dict[tuple[int, ...], Any] = {}
        self._compiling = Lock()

    @property
    def config(self) -> Any:
        """What diffusers says of the network; empty for another."""
        return getattr(self.network, "config", {})

    def forward(self, z: Tensor, timesteps: Tensor) -> Tensor:
        """z (B, C, H, W) at original timesteps (B,) to the network's answer, (B, C', H, W)."""
        if z.requires_grad and torch.is_grad_enabled():
            return _tensor(self.network(z, timesteps))
        with self._compiling:
            session = self._sessions.get(tuple(z.shape)) or self._sessions.setdefault(
                tuple(z.shape), _compiled(self.network, z, timesteps)
            )
        return torch.from_numpy(session.run(None, {"z": z.detach().contiguous().numpy(), "timesteps": timesteps.numpy()})[0])


class Plain(nn.Module):
    """The network with a tensor for its answer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, timesteps: Tensor) -> Tensor:
        return _tensor(self.network(z, timesteps))


def _tensor(out: Any) -> Tensor:
    return out if isinstance(out, Tensor) else out.sample


def _compiled(network: nn.Module, z: Tensor, timesteps: Tensor) -> Any:
    """The network for batches like z, and timesteps like these: whole ones or, of a flow, not. Raises UserError for one that
    cannot be exported."""
    import onnxruntime

    example, file = (torch.zeros(z.shape), torch.zeros_like(timesteps)), cast(Any, io.BytesIO())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that sizes become constants, which is wanted, and that this exporter is the older one
        # by tracing (dynamo=False): a fifth of the newer exporter's time, and other threads may compute meanwhile
        try:
            torch.onnx.export(
                Plain(network).eval(), example, file, dynamo=False, input_names=["z", "timesteps"], opset_version=17
            )
        except Exception as error:  # of many kinds, by what the network is made of
            raise UserError(f"runtime: onnxruntime cannot compile this UNet ({error}); set `runtime: torch`") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # shards run side by side
    return onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])


def check_compiles(device: str) -> str:
    """What compiles, with its version. Raises UserError for a device that is no CPU."""
    if device != "cpu":
        raise UserError(
            f"runtime: onnxruntime computes on a CPU, but the device is {device}; set `device: cpu`, or `runtime: auto`"
        )
    return f"onnxruntime {importlib.metadata.version('onnxruntime')}"
