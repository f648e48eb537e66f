"""A UNet compiled for this processor by ONNX Runtime, for the passes that need no gradient."""

from __future__ import annotations

import importlib.metadata
import io
import warnings
from collections.abc import Callable
from threading import Lock
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from cfx.errors import UserError


class Session(NamedTuple):
    """A network as ONNX Runtime computes it."""

    run: Callable[..., Any]
    most: int  # images that it has been tried with
    any_size: bool  # whether each image's answer is the same bits in all smaller batches

    def __call__(self, z: Tensor, timesteps: Tensor) -> Tensor:
        found = self.run(None, {"z": z.detach().contiguous().numpy(), "timesteps": timesteps.contiguous().numpy()})[0]
        return torch.from_numpy(found)


class Compiled(nn.Module):
    """A network from (B, C, H, W) float32 and (B,) timesteps to (B, C', H, W), on a CPU.

    Passes that are differentiated through are torch's. The others are ONNX Runtime's, on one thread, compiled when a shape is
    first seen: they differ from torch's by rounding, and not at all by what else is in the batch. Copies of the first image that
    fill a batch up cost nothing, where this processor's kernels give the same bits in batches of any size: that is tried first.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._sessions: dict[tuple[int, ...], Session] = {}  # by the shape of an image, or by that of a batch
        self._compiling = Lock()

    @property
    def config(self) -> Any:
        """What diffusers says of the network; empty for another."""
        return getattr(self.network, "config", {})

    def forward(self, z: Tensor, timesteps: Tensor) -> Tensor:
        """z (B, C, H, W) at original timesteps (B,) to the network's answer, (B, C', H, W)."""
        if z.requires_grad and torch.is_grad_enabled():
            return _tensor(self.network(z, timesteps))
        session = self._session(z, timesteps)
        if not session.any_size:
            return session(z, timesteps)
        n = _without_copies(z, timesteps)
        answer = session(z[:n], timesteps[:n])
        return answer if n == len(z) else torch.cat([answer, answer[:1].expand(len(z) - n, *answer.shape[1:])])

    def _session(self, z: Tensor, timesteps: Tensor) -> Session:
        image, batch = tuple(z.shape[1:]), tuple(z.shape)
        with self._compiling:
            for key in (image, batch):
                found = self._sessions.get(key)
                if found is not None and len(z) <= found.most:
                    return found
            found = _compiled(self.network, z, timesteps)
            self._sessions[image if found.any_size else batch] = found
            return found


def _without_copies(z: Tensor, timesteps: Tensor) -> int:
    """How many images of a batch are left without the copies of the first at its end."""
    n = len(z)
    while n > 1 and timesteps[n - 1] == timesteps[0] and torch.equal(z[n - 1], z[0]):
        n -= 1
    return n


class Plain(nn.Module):
    """The network with a tensor for its answer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, timesteps: Tensor) -> Tensor:
        return _tensor(self.network(z, timesteps))


def _tensor(out: Any) -> Tensor:
    return out if isinstance(out, Tensor) else out.sample


def _compiled(network: nn.Module, z: Tensor, timesteps: Tensor) -> Session:
    """The network for images like z, and timesteps like these: whole ones or, of a flow, not. Raises UserError for one that
    cannot be exported."""
    import onnxruntime

    example, file = (torch.zeros(z.shape), torch.zeros_like(timesteps)), cast(Any, io.BytesIO())
    names = ["z", "timesteps", "answer"]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that sizes become constants, which is wanted, and that this exporter is the older one
        # by tracing (dynamo=False): a fifth of the newer exporter's time, and other threads may compute meanwhile
        try:
            torch.onnx.export(
                Plain(network).eval(),
                example,
                file,
                dynamo=False,
                input_names=names[:2],
                output_names=names[2:],
                dynamic_axes={name: {0: "images"} for name in names},
                opset_version=17,
            )
        except Exception as error:  # of many kinds, by what the network is made of
            raise UserError(f"runtime: onnxruntime cannot compile this UNet ({error}); set `runtime: torch`") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # shards run side by side
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    found = Session(session.run, len(z), any_size=False)
    return found._replace(any_size=_answers_any_size(found, z, timesteps))


def _answers_any_size(session: Session, z: Tensor, timesteps: Tensor) -> bool:
    """Whether noise like z is answered with the same bits in all smaller batches. Of one image that cannot be told."""
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    together = session(noise, timesteps)
    try:
        return len(z) > 1 and all(torch.equal(session(noise[:n], timesteps[:n]), together[:n]) for n in range(1, len(z)))
    except Exception:  # onnxruntime's, where the network's own code made the size of the batch a constant
        return False


def check_compiles(device: str) -> str:
    """What compiles, with its version. Raises UserError for a device that is no CPU."""
    if device != "cpu":
        raise UserError(
            f"runtime: onnxruntime computes on a CPU, but the device is {device}; set `device: cpu`, or `runtime: auto`"
        )
    return f"onnxruntime {importlib.metadata.version('onnxruntime')}"
