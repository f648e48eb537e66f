"""A network from outside: made by the user's own function, filled with weights, put behind cfx's convention for images.

Classifiers and the oracle come through this door; what their logits mean is their own affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cfx.checkpoint import Facts, load_weights, read_facts
from cfx.classifiers.centre import LUMA, centre
from cfx.classifiers.hub import HUBS, from_hub, least_side
from cfx.classifiers.pretrained_folder import is_pretrained, load_pretrained
from cfx.classifiers.program import Program, is_program, load_program
from cfx.errors import UserCodeError, UserError
from cfx.images import LARGEST_SIDE
from cfx.types import Config
from cfx.user_code import import_named, user_code

Origin = Literal["input_size", "mean", "std", "crop"]

BUNDLED = "portraits:"
TRAINED_BY_CFX = tuple(f"cfx.networks.{name}" for name in ("convnet:ConvNet", "hit:HiT", "vit:vit"))  # what a file may name
MOVED = {  # where factories were until 0.1, in files of weights and in configurations, and where they are
    f"cfx.classifiers.{name}": f"cfx.networks.{name}"
    for name in ("convnet", "densenet", "face_resnet", "hit", "simsiam", "vggface2", "vit")
}
HALF = (0.5, 0.5, 0.5)
UNFIT = (  # what torch, timm, transformers and scripted networks raise for images that they cannot take
    RuntimeError,
    AssertionError,
    ValueError,
    torch.jit.Error,
)
BLANK_SIDES = (224, 64, 32, 28, 96, 128, 256, 299)  # pixels of the trial images, in turn, when no input size is given
ORIGINS: tuple[Origin, ...] = ("input_size", "mean", "std", "crop")


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, int | float) else value


PerChannel = Annotated[tuple[float, float, float] | tuple[float], BeforeValidator(_as_tuple)]


class NetworkConfig(Config):
    """Where a network comes from and what it expects to see. `weights` and `module` are enough for most."""

    weights: Path | None = Field(
        None,
        description="a .safetensors file, a torch file (.pt, .pth, .ckpt, .tar) of weights, or the folder of an image classifier "
        "as Hugging Face's `save_pretrained` writes it, which needs nothing else; `portraits:planted` (or clean, judge, oracle) "
        "is a network that comes with cfx",
    )
    module: str | None = Field(
        None,
        pattern=r"^[\w.]+:[\w.-]+$",
        description="`torchvision:NAME`, `timm:NAME`, or `package.module:factory`, a function or class, installed or beside the "
        "YAML file, that makes the network; cfx's own networks need none",
    )
    kwargs: dict[str, object] = Field({}, description="arguments of the factory")
    input_size: int | None = Field(
        None, ge=1, le=LARGEST_SIDE, description="side the network wants, pixels; other images are resampled"
    )
    crop: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of the side of an image that the network sees, its centre: 0.875 where images are resized to 256 and "
        "224 cut out; default: what a Hugging Face folder's preprocessor does, 1 for others",
    )
    channels: Literal[1, 3] | None = Field(
        None, description="1: it sees grey images, the luma of RGB; default: what its first convolution takes"
    )
    mean: PerChannel | None = Field(
        None,
        description="subtracted from RGB in [0, 1] (or from grey: one number); default: what torchvision or timm say of theirs, "
        ".5 for others",
    )
    std: PerChannel | None = Field(None, description="divides what is left; default: as for mean; .5 and .5 give [-1, 1]")
    key: str | None = Field(
        None, description="where in the file the weights are, `model_ema` say, if they fit in more than one place"
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

    gain: Tensor  # (channels, 1, 1)
    offset: Tensor

    def __init__(self, module: nn.Module, name: str, config: NetworkConfig, facts: Facts) -> None:
        super().__init__()
        self.module, self.name, self.input_size = module, name, config.input_size or facts.get("input_size")
        self.crop = config.crop or facts.get("crop") or 1.0
        self.published_size, self.published_crop = facts.get("published_size"), facts.get("published_crop")
        self.squeezes, self.resample = facts.get("squeezes", False), facts.get("resample", "bilinear")
        self.contradicted = _contradicted(config, facts)
        self.origins: dict[str, str] = {key: _origin(key, config, facts) for key in ORIGINS}
        self.users = config.module if config.module and _is_users(config.module) else None
        self.channels = config.channels or facts.get("channels") or (1 if _first_channels(module) == 1 else 3)
        self.least = least_side(config.module or "")
        self.notes: tuple[str, ...] = ()  # what a user should know about how it was loaded
        mean, std = (self._per_channel(key, config, facts) for key in ("mean", "std"))
        # ((x + 1) / 2 - mean) / std as one multiplication, so that .5 and .5 leave x exactly as it is
        self.register_buffer("gain", 0.5 / std, persistent=False)
        self.register_buffer("offset", (0.5 - mean) / std, persistent=False)

    def _per_channel(self, key: Literal["mean", "std"], config: NetworkConfig, facts: Facts) -> Tensor:
        """Mean or standard deviation, (channels, 1, 1). A hub's three numbers are taken for grey as luma takes colours."""
        given = getattr(config, key)
        if given is not None and len(given) != self.channels:
            takes = _described(self.channels)
            raise UserError(f"{key} has {len(given)} numbers, but {self.name} takes {takes}: give {self.channels}")
        values = torch.tensor(given or facts.get(key, HALF[: self.channels]))
        if self.channels == 1 and len(values) == 3:
            values = (values * torch.tensor(LUMA)).sum()
        return values.view(-1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Raises UserError, naming the network, for images it cannot take and for an answer that is not (B, K) or not finite;
        UserCodeError for what a user's own network raises."""
        side, x = self.input_size, self.centre(x)
        if self.channels == 1:
            x = (x * x.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
        if side is not None and x.shape[-2:] != (side, side):
            x = interpolate(x, size=(side, side), mode=self.resample, antialias=True)
        with user_code(self.users) if self.users else self._fits(x):
            answer = self.module(x * self.gain + self.offset)
        logits = _logits_of(answer)
        if logits is None or logits.ndim != 2 or len(logits) != len(x) or not logits.is_floating_point():
            raise UserError(
                f"{self.name} answered {_described(answer)} to {len(x)} images; one tensor of logits ({len(x)}, K) is needed: "
                "give a module whose forward returns that alone"
            )
        if not logits.isfinite().all():
            raise UserError(f"{self.name} answered NaN or infinity; check its weights, and `mean` and `std`")
        return logits.float()

    def centre(self, x: Tensor) -> Tensor:
        """The part of x (B, C, H, W) that the network sees, in its middle."""
        return centre(x, self.crop)

    def outputs(self) -> int:
        """How many logits there are, learned by showing two blank images. Raises UserError if the network cannot take them."""
        refused: UserError | None = None
        for side in (self.input_size,) if self.input_size else BLANK_SIDES:
            try:
                with torch.no_grad():
                    return int(self(torch.zeros(2, 3, side, side, device=self.gain.device)).shape[1])
            except UserError as error:
                refused = refused or self.at_size(error, side, side)
        assert refused is not None
        raise refused

    def at_size(self, error: UserError, height: int, width: int) -> UserError:
        """What a user's own network raised, with the size of the images and what to set."""
        if not isinstance(error, UserCodeError):
            return error
        return UserCodeError(f"{error} (on images of {height} x {width}; {self._way_out()})", error.trace)

    @contextmanager
    def _fits(self, x: Tensor) -> Iterator[None]:
        """What torch and timm raise in the body for images that they cannot take is a UserError."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except UNFIT as error:
            if x.ndim != 4:  # no images
                raise
            shown, why = f"{x.shape[-2]} x {x.shape[-1]}, {_described(x.shape[1])}", _reason(error)
            raise UserError(f"{self.name} fails on {len(x)} images of {shown} ({why}); {self._way_out()}") from error

    def _way_out(self) -> str:
        """What to set for a network that cannot take the images it is shown."""
        first = _first_channels(self.module)
        if first is None and self.channels == 3:
            return "set `input_size`, and `channels: 1` if it takes grey images"
        if first in (None, self.channels):
            return f"it takes at least {self.least} x {self.least}; set `input_size`" if self.least else "set `input_size`"
        choice = f"set `channels: {first}`" if first in (1, 3) else "only RGB and grey images can be shown"
        return f"its first convolution takes {first} channels, and it is shown {self.channels}: {choice}"


def load_network(config: NetworkConfig, device: torch.device | str = "cpu") -> tuple[Network, Facts]:
    """The network, frozen and in eval mode, and the facts in its file (empty unless cfx trained it) or of its hub.

    Raises FileNotFoundError without the file, ImportError without the module, UserError if the two do not fit.
    """
    path = None if config.weights is None else weights_path(config.weights)
    if path is not None and is_pretrained(path):
        return _pretrained(path, config, device)
    if path is not None and config.module is None and is_program(path):
        network = Network(load_program(path, config.allow_pickle), str(path), config, {})
        return network.eval().requires_grad_(False).to(device), {}
    facts = {} if path is None else read_facts(path)
    name, kwargs = (config.module, config.kwargs) if config.module else _named_by_file(path, facts, config.kwargs)
    if path is not None and config.module is None:
        _check_size(path, name, kwargs)
    module, known = _make(name, kwargs)
    facts = known | facts
    notes = () if path is None else load_weights(module, path, name, config.key, config.allow_pickle)
    network = Network(module, str(config.weights or name), config, facts)
    network.notes = notes
    return network.eval().requires_grad_(False).to(device), facts


def _pretrained(folder: Path, config: NetworkConfig, device: torch.device | str) -> tuple[Network, Facts]:
    """The network of a folder that says all about itself. Raises UserError for settings that would say it again."""
    idle = [name for name in ("module", "kwargs", "key") if getattr(config, name)]
    if idle:
        raise UserError(f"{folder} says itself which network it holds: leave out {', '.join(f'`{name}`' for name in idle)}")
    seen_is_set = None not in (config.input_size, config.mean, config.std)
    module, facts = load_pretrained(folder, seen_is_set)
    network = Network(module, str(folder), config, facts)
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


def _check_size(path: Path, name: str, kwargs: dict[str, object]) -> None:
    """Raises UserError for arguments in a file of weights that the factory does not take, or that make a network of more weights
    than the file has bytes: it might be larger than memory."""
    try:
        with torch.device("meta"):  # shapes alone
            sized, _ = _make(name, kwargs)
    except Exception as error:  # arguments from elsewhere can be of any kind
        raise UserError(f"{path} says that {name} is made of {str(kwargs)[:200]}, and it is not: {_reason(error)}") from error
    if (weights := sum(value.numel() for value in sized.state_dict().values())) > (held := path.stat().st_size):
        raise UserError(f"{path} says that it holds {weights:,} weights, and has {held:,} bytes; copy or download it again")


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


def _origin(key: Origin, config: NetworkConfig, facts: Facts) -> str:
    """Who says what a network sees: the settings, the hub, the file of its weights, or nobody."""
    if getattr(config, key) is not None:
        return "the settings"
    if facts.get(key) is None:
        return "the default"
    if config.module is None and config.weights is not None and config.weights.is_dir():
        return "the folder's preprocessor"
    hub = (config.module or "").partition(":")[0]
    return hub if hub in HUBS else "the weights' file"


def _contradicted(config: NetworkConfig, facts: Facts) -> tuple[str, ...]:
    """Where the settings say otherwise than who trained the weights: cfx in their file, or the hub that published them."""
    trained: dict[str, object] = {key: facts.get(key, HALF) for key in ("mean", "std")}
    if "module" in facts:
        who = "the file says"
        trained["input_size"] = facts.get("input_size")
    elif "crop" in facts:
        who = "the folder's preprocessor has"
        trained |= {"input_size": facts.get("input_size"), "crop": facts["crop"]}
    elif "published_size" in facts and "classes" in facts:
        who = "its published weights were trained with"
    else:
        return ()
    said = {key: (getattr(config, key), known) for key, known in trained.items() if known is not None}
    return tuple(
        f"`{key}` is {setting} in the settings, where {who} {known}"
        for key, (setting, known) in said.items()
        if setting is not None and not torch.allclose(torch.tensor(setting), torch.tensor(known), atol=1e-3)
    )


def _reason(error: Exception) -> str:
    """The line that says what is wrong: of TorchScript's, which begin with where it was, the last."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1 if isinstance(error, torch.jit.Error) else 0]


def _is_users(name: str) -> bool:
    """Whether `package.module:factory` is neither cfx's nor a hub's."""
    package = _moved(name).partition(":")[0]
    return package not in HUBS and (package.partition(".")[0] != "cfx" or package == "cfx.live")


def _logits_of(answer: object) -> Tensor | None:
    """The logits (B, K) in what a network answered, where it is beyond doubt which they are.

    A tensor; what is called `logits`, or the only one that is (B, K); of several of one shape, as main and auxiliary heads give,
    the first. One logit an image may come as (B,), places of size one may trail.
    """
    if isinstance(answer, Tensor):
        if answer.ndim < 2:
            return answer.reshape(-1, 1)
        return answer.flatten(1) if answer.shape[2:].numel() == 1 else answer
    if isinstance(named := _by_name(answer), Tensor):
        return _logits_of(named)
    parts = list(answer.values()) if isinstance(answer, Mapping) else answer
    if not isinstance(parts, Sequence):
        return None
    found = [part for part in parts if isinstance(part, Tensor) and part.ndim == 2]
    return found[0] if len({part.shape for part in found}) == 1 else None


def _by_name(answer: object) -> object:
    return answer.get("logits") if isinstance(answer, Mapping) else getattr(answer, "logits", None)


def _described(answer: object) -> str:
    """Channels, or what a network answered, in a few words."""
    match answer:
        case int():
            return {1: "1 channel (grey)", 3: "3 channels (RGB)"}.get(answer, f"{answer} channels")
        case Tensor():
            return f"{tuple(answer.shape)}" + ("" if answer.is_floating_point() else f" {answer.dtype}")
        case Mapping():
            return f"{type(answer).__name__} of " + ", ".join(f"{key}: {_described(value)}" for key, value in answer.items())
        case list() | tuple():
            return f"{type(answer).__name__} of " + ", ".join(map(_described, answer))
        case _:
            return type(answer).__name__


def _first_channels(module: nn.Module) -> int | None:
    """How many channels the first convolution takes, if there is one. Of a program only the shapes of its weights are known."""
    if isinstance(module, Program):
        return next((weight.shape[1] for weight in module.parameters() if weight.ndim == 4), None)
    return next((part.in_channels for part in module.modules() if isinstance(part, nn.Conv2d)), None)
