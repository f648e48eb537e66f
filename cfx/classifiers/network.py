"""A network from outside: made by the user's own function, filled with weights, put behind cfx's convention for images.

Classifiers and the oracle come through this door; what their logits mean is their own affair.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from importlib.resources import files
from pathlib import Path

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cfx.checkpoint import Facts, fit, read_facts, read_state_dict
from cfx.classifiers.hub import HUBS, from_hub
from cfx.errors import UserCodeError, UserError
from cfx.types import Config
from cfx.user_code import import_named, user_code

BUNDLED = "portraits:"
TRAINED_BY_CFX = tuple(f"cfx.networks.{name}" for name in ("convnet:ConvNet", "hit:HiT", "vit:vit"))  # what a file may name
MOVED = {  # where factories were until 0.1, in files of weights and in configurations, and where they are
    f"cfx.classifiers.{name}": f"cfx.networks.{name}"
    for name in ("convnet", "densenet", "face_resnet", "hit", "simsiam", "vggface2", "vit")
}
HALF = (0.5, 0.5, 0.5)
BLANK_SIDE = 224  # pixels of the trial image when no input size is given


class NetworkConfig(Config):
    """Where a network comes from and what it expects to see. `weights` and `module` are enough for most."""

    weights: Path | None = Field(
        None,
        description="a .safetensors file, or a torch file (.pt, .pth, .tar) of weights; `portraits:planted` (or clean, judge, "
        "oracle) is a network that comes with cfx",
    )
    module: str | None = Field(
        None,
        pattern=r"^[\w.]+:[\w.-]+$",
        description="`torchvision:NAME`, `timm:NAME`, or `package.module:factory`, a function or class, installed or beside the "
        "YAML file, that makes the network; cfx's own networks need none",
    )
    kwargs: dict[str, object] = Field({}, description="arguments of the factory")
    input_size: int | None = Field(None, ge=1, description="side the network wants, pixels; other images are resampled")
    mean: tuple[float, float, float] | None = Field(
        None, description="subtracted from RGB in [0, 1]; default: what torchvision or timm say of theirs, .5 for others"
    )
    std: tuple[float, float, float] | None = Field(
        None, description="divides what is left; default: as for mean; .5 and .5 give [-1, 1]"
    )
    allow_pickle: bool = Field(False, description="read torch files that run code; only for files whose maker you trust")

    @model_validator(mode="after")
    def _has_a_source(self) -> NetworkConfig:
        if self.weights is None and self.module is None:
            raise UserError("no network: set `weights` (a file, or portraits:planted), `module` (package.module:make), or both")
        if self.std is not None and min(self.std) <= 0:
            raise UserError(f"std is {self.std}; every channel needs a number above 0")
        return self


class Network(nn.Module):
    """(B, 3, H, W) in [-1, 1] to logits (B, outputs) float32: resamples, normalises, refuses an unusable answer."""

    gain: Tensor  # (3, 1, 1)
    offset: Tensor

    def __init__(self, module: nn.Module, name: str, config: NetworkConfig, facts: Facts) -> None:
        super().__init__()
        self.module, self.name, self.input_size = module, name, config.input_size or facts.get("input_size")
        self.users = config.module if config.module and _is_users(config.module) else None
        mean = torch.tensor(config.mean or facts.get("mean", HALF)).view(-1, 1, 1)
        std = torch.tensor(config.std or facts.get("std", HALF)).view(-1, 1, 1)
        # ((x + 1) / 2 - mean) / std as one multiplication, so that .5 and .5 leave x exactly as it is
        self.register_buffer("gain", 0.5 / std, persistent=False)
        self.register_buffer("offset", (0.5 - mean) / std, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Raises UserError, naming the network, for an answer that is not (B, K) or not finite; UserCodeError for what a user's
        own network raises."""
        side = self.input_size
        if side is not None and x.shape[-2:] != (side, side):
            x = interpolate(x, size=(side, side), mode="bilinear", antialias=True)
        with user_code(self.users) if self.users else nullcontext():
            logits = self.module(x * self.gain + self.offset)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
            answer = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(f"{self.name} answered {answer} to {len(x)} images; a tensor of logits ({len(x)}, K) is needed")
        if not logits.isfinite().all():
            raise UserError(f"{self.name} answered NaN or infinity; check its weights, and `mean` and `std`")
        return logits.float()

    def outputs(self) -> int:
        """How many logits there are, learned by showing one blank image."""
        side = self.input_size or BLANK_SIDE
        try:
            with torch.no_grad():
                return int(self(torch.zeros(1, 3, side, side, device=self.gain.device)).shape[1])
        except (RuntimeError, AssertionError) as error:  # what torch and timm raise for a size they cannot take
            raise UserError(f"{self.name} fails on a blank image of {side} x {side}; set `input_size`. {error}") from error
        except UserCodeError as error:
            raise UserCodeError(
                f"{error} (on a blank image of {side} x {side}; set `input_size` if it needs another size)", error.trace
            ) from error


def load_network(config: NetworkConfig, device: torch.device | str = "cpu") -> tuple[Network, Facts]:
    """The network, frozen and in eval mode, and the facts in its file (empty unless cfx trained it) or of its hub.

    Raises FileNotFoundError without the file, ImportError without the module, UserError if the two do not fit.
    """
    path = None if config.weights is None else weights_path(config.weights)
    state = None if path is None else read_state_dict(path, config.allow_pickle)
    facts = {} if path is None else read_facts(path)
    name, kwargs = (config.module, config.kwargs) if config.module else _named_by_file(path, facts, config.kwargs)
    module, known = _make(name, kwargs)
    facts = known | facts
    if path is not None and state is not None:
        fit(module, state, path, name)
    network = Network(module, str(config.weights or name), config, facts)
    return network.eval().requires_grad_(False).to(device), facts


def weights_path(weights: Path) -> Path:
    """The file meant by `weights`: itself, or for `portraits:NAME` the file that comes with cfx. Raises FileNotFoundError."""
    if not str(weights).startswith(BUNDLED):
        return weights
    folder = Path(str(files("cfx") / "weights" / "portraits"))
    known = {path.stem: path for path in sorted(folder.glob("*.safetensors"))}
    name = str(weights).removeprefix(BUNDLED)
    if name not in known:
        raise FileNotFoundError(f"cfx comes with no {str(weights)!r}; it has {', '.join(BUNDLED + stem for stem in known)}")
    return known[name]


def _named_by_file(path: Path | None, facts: Facts, kwargs: dict[str, object]) -> tuple[str, dict[str, object]]:
    """Factory and arguments from a file's own facts. Weights must not choose what code runs, so only cfx's own will do."""
    module = _moved(facts["module"]) if "module" in facts else None
    if module not in TRAINED_BY_CFX:
        raise UserError(
            f"{path} does not say which network its weights belong to; set `module` to torchvision:NAME, timm:NAME or "
            "package.module:factory"
        )
    return module, facts.get("kwargs", {}) | kwargs


def _moved(name: str) -> str:
    """`package.module:factory` where it is now."""
    package, _, factory = name.partition(":")
    return f"{MOVED.get(package, package)}:{factory}"


def _make(name: str, kwargs: dict[str, object]) -> tuple[nn.Module, Facts]:
    """Call `package.module:factory`, or query a hub, which also gives facts. Raises ImportError or UserError naming what is
    not right."""
    package, factory = _moved(name).split(":")
    if package in HUBS:
        return from_hub(package, factory, kwargs)
    _, make = import_named(f"{package}:{factory}")
    with user_code(name) if _is_users(name) else nullcontext():
        network = _called(make, name, kwargs)
    if not isinstance(network, nn.Module):
        raise UserError(f"{name} made a {type(network).__name__}, not a torch.nn.Module")
    return network, {}


def _called(make: Callable[..., object], name: str, kwargs: dict[str, object]) -> object:
    """`make(**kwargs)`. Raises UserError for arguments that it does not take, and whatever its own body raises."""
    try:
        return make(**kwargs)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:  # raised inside, not by the call
            raise
        raise UserError(f"{name} cannot be called with kwargs {kwargs}: {error}") from error


def _is_users(name: str) -> bool:
    """Whether `package.module:factory` is neither cfx's nor a hub's."""
    package = _moved(name).partition(":")[0]
    return package not in HUBS and package.partition(".")[0] != "cfx"
