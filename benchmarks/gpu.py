"""Speed and memory of a GPU, by size, precision, engine and batch, and by how much an image's result depends on its batch:

    python benchmarks/gpu.py [--minutes 7] [--json] [--out FILE]
    python benchmarks/gpu.py --tiny      that it runs: small networks, few steps, also without a GPU

What fits into the minutes, what tells most first; what was not reached is named. 64 pixels: the bundled prior, classifier and
portraits; 128 and 256: the published UNets' sizes with random weights, whose images mean nothing; 512: Stable Diffusion 1.5's.
A row `unet` is an evaluation, in batches that double until images a second gain less than a tenth, or memory is out; a row of a
method is its ladder's first rung. A method that would take too long is shortened, and its rate is that of the whole, by UNet
evaluations (`share`). Rows `batches` have the largest difference of a pixel, on [-1, 1], from the same image in another slot
beside others, in a batch of another size, and in the same batch again. Memory is what a call takes beside weights and images.
"""

from __future__ import annotations

import argparse
import copy
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

sys.path.pop(0)  # benchmarks/, whose statistics.py would hide Python's own
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import precisions
from benchmarks.card import Card, Spent
from benchmarks.portrait_presets import presets
from benchmarks.stable_diffusion import random_prior
from cfx.classifiers import ClassifierConfig, TorchClassifier, load_classifier
from cfx.diffusion.ddpm import DDPM, Schedule, set_heads
from cfx.diffusion.guided import PUBLISHED, GuidedDiffusion, unet_of
from cfx.diffusion.latent_prior import LatentPrior
from cfx.diffusion.runtimes import computed
from cfx.guidance import class_gradient
from cfx.methods.ace import ACE
from cfx.methods.dime import DiME
from cfx.methods.dvce import DVCE
from cfx.portraits import draw, render
from cfx.random import ImageNoise
from flows.engine import float32_in_full
from tasks.config import Method, PriorConfig
from tasks.cost import Counted
from tasks.explainer import bind, respaced
from tasks.networks import denoiser_for
from tasks.stages.prior import prior_folder

TINY = GuidedDiffusion(image_size=32, num_channels=32, channel_mult=(1, 2), attention_resolutions=(16,), num_head_channels=32)
METHODS = ("default/default", "fastdime/paper", "maskdime/paper", "ace-l1/paper", "dime/paper", "dvce/paper")
SHORT = {"tau": 2, "iterations": 2, "augmentations": 1}  # to warm up, and with --tiny
PLANTED = ClassifierConfig(weights=Path("portraits:planted"))
COMPILING = 75.0  # seconds that torch.compile may need for a large UNet, at least; without them it is not begun


@dataclass(frozen=True)
class Engine:
    """How a UNet's passes without a gradient are computed."""

    name: str
    settings: tuple[Any, Any] = ("torch", "float32")
    tf32: bool = False
    channels_last: bool = True

    def network(self, network: nn.Module) -> nn.Module:
        """The network, computed so."""
        if not self.channels_last:
            network = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
        return computed(network, *self.settings)


FLOAT32, BFLOAT16 = Engine("float32"), Engine("bfloat16", ("torch", "bfloat16"))
EAGER = (
    FLOAT32,
    BFLOAT16,
    Engine("tf32", tf32=True),
    Engine("float32, channels first", channels_last=False),
    Engine("bfloat16, channels first", ("torch", "bfloat16"), channels_last=False),
)
COMPILED = Engine("bfloat16, compiled", ("torch.compile", "bfloat16"))


@dataclass(frozen=True, eq=False)
class Subject:
    """A prior and a classifier of one size."""

    size: int  # pixels
    prior: DDPM
    classifier: TorchClassifier
    real: bool = False  # the bundled networks: images mean something

    def images(self, n: int, device: str) -> Tensor:
        """(n, 3, size, size) in [-1, 1]."""
        if self.real:
            pixels = torch.from_numpy(np.stack([render(portrait) for _, portrait in draw(n, seed=8)]))
            return (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).to(device)
        noise = torch.Generator().manual_seed(0)
        return (torch.rand(n, 3, self.size, self.size, generator=noise) * 2 - 1).to(device)

    def states(self, n: int, device: str) -> Tensor:
        """What the prior denoises, n alike."""
        x = self.images(1, device)
        return (x if self.prior.autoencoder is None else self.prior.autoencoder.encode(x)).expand(n, -1, -1, -1).contiguous()

    @cache  # noqa: B019  (as long as the benchmark: what was compiled is not compiled again)
    def by(self, engine: Engine) -> DDPM:
        """The prior, computed by this engine."""
        network = engine.network(self.prior.network)
        if isinstance(self.prior, LatentPrior):
            return LatentPrior(replace(self.prior.model, network=network))
        return DDPM(network, self.prior.schedule, self.prior.channels)


@dataclass
class Row:
    """What was measured of one thing."""

    what: str  # unet, batches, or a method
    size: int
    engine: str
    batch: int
    seconds: float | None = None  # a batch
    busy_share: float | None = None
    peak_mib: float | None = None
    images_per_second: float | None = None
    seconds_per_image: float | None = None
    share: float = 1.0  # of the method's UNet evaluations that were measured
    nfe_forward: int | None = None
    nfe_backward: int | None = None
    first_seconds: float | None = None  # of the first batch, with what is compiled or chosen for it
    from_float32: float | None = None  # largest difference of the UNet's answer; of a gradient, as a share of the largest
    other_slot: float | None = None
    other_size: float | None = None
    again: float | None = None

    def rated(self) -> Row:
        """With the rates that follow."""
        assert self.seconds is not None
        self.images_per_second, self.seconds_per_image = (
            self.batch * self.share / self.seconds,
            self.seconds / self.batch / self.share,
        )
        return self


@dataclass
class Bench:
    """What is measured, and what was found."""

    card: Card
    tiny: bool
    until: float  # time.monotonic()
    rows: list[Row] = field(default_factory=list)
    of_precisions: list[dict[str, Any]] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)
    saturated: dict[tuple[int, str], tuple[int, float]] = field(default_factory=dict)  # batch, seconds an evaluation of it

    @property
    def window(self) -> float:
        """Seconds that something is repeated for."""
        return 0.02 if self.tiny else 0.3

    @property
    def longest(self) -> float:
        """Seconds that a method may take on a batch."""
        return 2.0 if self.tiny else 6.0

    def add(self, row: Row) -> None:
        self.rows.append(row)
        there = {name: value for name, value in asdict(row).items() if value is not None}
        print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in there.items()), file=sys.stderr)  # noqa: T201

    def step(self, name: str, measure: Callable[[], None], least: float = 1.0) -> None:
        """Measure, where as many seconds are left, and no longer than there are."""
        left = self.until - time.monotonic()
        if left < least:
            self.not_measured.append(f"{name}: no time was left")
            return
        try:
            with _at_most(left), float32_in_full():
                measure()
        except TimeoutError:
            self.not_measured.append(f"{name}: was not done when the time was up")
        except torch.OutOfMemoryError:
            self.not_measured.append(f"{name}: memory is too small")
        except Exception as error:  # the others are measured all the same
            if self.tiny:
                raise
            self.not_measured.append(f"{name}: {type(error).__name__}: {error}")
        self.card.forget()

    def unet(self, subject: Subject, engine: Engine) -> None:
        """Evaluations of the UNet in growing batches."""
        rate, batch, most = 0.0, *((1, 4) if self.tiny else (4, 1024))
        while batch <= most:
            try:
                spent, first, apart = self._evaluated(subject, engine, subject.states(batch, self.card.device))
            except torch.OutOfMemoryError:
                self.card.forget()
                break
            row = Row("unet", subject.size, engine.name, batch, *spent, first_seconds=first, from_float32=apart)
            self.add(row.rated())
            if batch / spent.seconds < 1.1 * rate and not self.tiny:
                break
            rate = batch / spent.seconds
            self.saturated[subject.size, engine.name] = batch, spent.seconds
            batch *= 2

    @torch.no_grad()
    def _evaluated(self, subject: Subject, engine: Engine, z: Tensor) -> tuple[Spent, float, float]:
        """What an evaluation takes, what the first one took, and how far it lies from float32's."""
        once, exact = partial(subject.by(engine).answer, z, 0), subject.prior.answer(z, 0)
        with _tf32() if engine.tf32 else nullcontext():
            started = time.perf_counter()
            apart = float((once() - exact).abs().max())
            first = time.perf_counter() - started
            return self.card.spent(once, self.window, engine is not COMPILED), first, apart

    def precisions(self) -> None:
        """What bfloat16 changes of explanations of portraits."""
        for row in precisions.rows(1 if self.tiny else 64, self.card.device, (("torch", "bfloat16"),)):
            self.of_precisions.append(row)

    def gradient(self, subject: Subject) -> None:
        """The classifier's gradient, which every guided step takes, by the order of its weights in memory."""
        x = subject.images(1, self.card.device).expand(2 if self.tiny else 8, -1, -1, -1)
        target, exact = torch.zeros(len(x), dtype=torch.long, device=x.device), None
        for engine, order in (("float32", torch.contiguous_format), ("float32, channels last", torch.channels_last)):
            classifier = copy.deepcopy(subject.classifier).to(memory_format=order)
            once = partial(class_gradient, classifier, x, target)
            found = once()
            exact = found if exact is None else exact
            row = Row("gradient", subject.size, engine, len(x), *self.card.spent(once, self.window))
            row.from_float32 = float((found - exact).abs().max() / exact.abs().max())
            self.add(row.rated())

    def method(self, name: str, subject: Subject, engine: Engine) -> None:
        """A method's first rung on one batch, the largest that pays and is not too slow."""
        published, (batch, seconds) = ladders()[name], self.saturated.get((subject.size, engine.name), (8, 0.05))
        while batch > 8 and (evaluations(published) * seconds > self.longest or isinstance(published, ACE | DVCE)):
            batch, seconds = batch // 2, seconds / 2  # what is differentiated through takes more memory
        method = shortest(published) if self.tiny else shortened(published, self.longest / seconds)
        while batch:
            try:
                row = self._explained(method, subject, engine, batch)
                row.what, row.share = name.partition("/")[0], evaluations(method) / evaluations(published)
                self.add(row.rated())
                return
            except torch.OutOfMemoryError:
                batch //= 2
                self.card.forget()
        raise torch.OutOfMemoryError

    def _explained(self, method: Method, subject: Subject, engine: Engine, batch: int) -> Row:
        x, prior, counted = subject.images(batch, self.card.device), subject.by(engine), list[Counted]()

        def once(method: Method) -> None:
            counted.append(Counted(respaced(prior, method)))
            run = bind(method, counted[-1], subject.classifier, self.card.device)
            run(x=x, target=torch.zeros(batch, dtype=torch.long, device=x.device), noise=ImageNoise.of(map(str, range(batch)), 0))

        once(shortest(method))  # what is chosen or compiled on first use
        spent = self.card.spent(partial(once, method), 0.0 if self.tiny else 2.0, engine is not COMPILED)
        row = Row("", subject.size, engine.name, batch, *spent)
        row.nfe_forward, row.nfe_backward = counted[-1].forward // batch, counted[-1].backward // batch
        return row

    def batches(self, subject: Subject, engine: Engine) -> None:
        """Whether an image's explanation depends on what is beside it: the default ladder's first rung."""
        method, n = ladders()["default/default"], 2 if self.tiny else 8
        method = shortest(method) if self.tiny else method
        x, prior, half = subject.images(2 * n, self.card.device), subject.by(engine), n // 2
        target = 1 - subject.classifier(x).argmax(1)

        def found(chosen: list[int]) -> Tensor:
            run = bind(method, respaced(prior, method), subject.classifier, self.card.device)
            noise = ImageNoise.of([str(i) for i in chosen], 0)
            return run(x=x[chosen], target=target[chosen], noise=noise).x_cf

        with torch.no_grad():
            first, again = found(list(range(n))), found(list(range(n)))
            others, fewer = found([*range(n, n + half), *range(half)]), found(list(range(n - 1)))
        row = Row("batches", subject.size, engine.name, n)
        row.other_slot = float((others[half:] - first[:half]).abs().max())
        row.other_size = float((fewer - first[:-1]).abs().max())
        row.again = float((again - first).abs().max())
        self.add(row)


@cache
def ladders() -> dict[str, Method]:
    """The first rung of each of METHODS."""
    return {preset.name: preset.ladder[0] for preset in presets() if preset.name in METHODS}


def evaluations(method: Method) -> int:
    """Of the UNet, an image; to differentiate through one takes about two more."""
    match method:
        case DiME():
            return method.tau * (method.tau + 1) // 2
        case ACE():
            return method.tau * (3 * method.iterations + method.refinements)
        case DVCE():
            return method.tau * 5  # class and distance go back through the UNet each
    return int(getattr(method, "tau", 0))


def shortened(method: Method, most: float) -> Method:
    """The method with so few steps or iterations that `most` evaluations are about enough, but no fewer than the shortest has."""
    key = "iterations" if isinstance(method, ACE) else "tau"
    while evaluations(method) > most and getattr(method, key) > SHORT[key]:
        method = method.model_copy(update={key: max(SHORT[key], getattr(method, key) * 3 // 4)})
    return method


def shortest(method: Method) -> Method:
    """The method with as few steps as it can have."""
    return method.model_copy(update={key: SHORT[key] for key in SHORT if key in type(method).model_fields})


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in a body that takes longer, as soon as Python has its turn."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _tf32() -> Iterator[None]:
    """Convolutions and matrix products in TF32, inside `float32_in_full`."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def subjects(tiny: bool, device: str) -> Iterator[Subject]:
    """From the smallest on."""
    if not tiny:
        bundled = prior_folder(Path(), PriorConfig(path="portraits:prior"), "")
        yield Subject(64, denoiser_for(bundled, device), load_classifier(PLANTED, device), real=True)
    module = f"torchvision.models:resnet{18 if tiny else 50}"
    classifier = load_classifier(ClassifierConfig(module=module, kwargs={"num_classes": 2}, classes=("no", "yes")), device)
    for arguments in (TINY,) if tiny else (PUBLISHED["celeba"], PUBLISHED["celebahq"]):
        with torch.device(device):  # weights of noise, drawn where they are used
            unet = unet_of(arguments).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        if arguments.num_heads is not None:
            set_heads(unet, arguments.num_heads)
        yield Subject(arguments.image_size, DDPM(unet, Schedule(num_train_timesteps=arguments.diffusion_steps), 3), classifier)


def small(device: str) -> Subject:
    """Instead of a UNet, what torch.compile has done with in seconds."""

    class Convolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, z: Tensor, timesteps: Tensor) -> Tensor:
            found: Tensor = self.layer(z)
            return found

    classifier = load_classifier(PLANTED, device)
    return Subject(64, DDPM(Convolution().eval().requires_grad_(False).to(device), Schedule(), 3), classifier)


def measure(bench: Bench) -> None:
    """Everything, what tells most first."""
    device, of_pixels = bench.card.device, list(subjects(bench.tiny, bench.card.device))
    _each(bench, "unet", of_pixels, EAGER[:3])
    _each(bench, "batches", of_pixels, EAGER[:2])
    bench.step("precisions", bench.precisions)
    _each(bench, METHODS[0], of_pixels, EAGER[:2])
    latent = [Subject(48 if bench.tiny else 512, random_prior(bench.tiny, device), of_pixels[-1].classifier)]
    _each(bench, "unet", latent, EAGER[:2])
    _each(bench, METHODS[0], latent, EAGER[:2])
    _compiled(bench, [small(device)] if bench.tiny else of_pixels[:1])
    for subject in of_pixels:
        bench.step(f"gradient, {subject.size} px", partial(bench.gradient, subject))
    for name in METHODS[1:]:
        _each(bench, name, of_pixels, EAGER[: 1 if isinstance(ladders()[name], ACE | DVCE) else 2])
    _compiled(bench, of_pixels[1:])
    _each(bench, "unet", of_pixels, EAGER[3:])


def _each(bench: Bench, what: str, of: Sequence[Subject], engines: Sequence[Engine]) -> None:
    """UNet, batches or a method, of each subject by each engine."""
    measures = {"unet": bench.unet, "batches": bench.batches}
    for engine, subject in product(engines, of):
        step = partial(measures.get(what) or partial(bench.method, what), subject, engine)
        bench.step(f"{what}, {subject.size} px, {engine.name}", step)


def _compiled(bench: Bench, of: Sequence[Subject]) -> None:
    """What compiling changes, of subjects for which there is time to compile."""
    for subject in of:
        least = COMPILING if subject.size > 64 else COMPILING / 3
        bench.step(f"unet, {subject.size} px, {COMPILED.name}", partial(bench.unet, subject, COMPILED), least)
        if (subject.size, COMPILED.name) in bench.saturated:
            _each(bench, METHODS[0], [subject], [COMPILED])
            _each(bench, "batches", [subject], [COMPILED])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=7, help="what does not fit into them is named, not measured")
    parser.add_argument("--tiny", action="store_true", help="small networks and few steps: only that it runs")
    parser.add_argument("--json", action="store_true", help="hardware, rows and what was not measured as JSON, as the last line")
    parser.add_argument("--out", type=Path, help="write them, command and commit to this JSON file")
    options = parser.parse_args()
    until, card = time.monotonic() + 60 * options.minutes, Card()
    if not card.is_gpu and not options.tiny:
        parser.error("torch sees no GPU; --tiny shows that the benchmark runs")
    bench = Bench(card, options.tiny, until)
    measure(bench)
    for name in bench.not_measured:
        print(f"not measured: {name}", file=sys.stderr)  # noqa: T201
    found = card.facts() | {
        "rows": [asdict(row) for row in bench.rows],
        "precisions": bench.of_precisions,
        "not_measured": bench.not_measured,
    }
    if options.out:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
        command = {"command": " ".join(["python", *sys.argv]), "commit": commit}
        options.out.write_text(json.dumps(command | found, indent=1) + "\n")
    if options.json:
        print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
