"""Audits in a program: no YAML, no server. The facts, and for files and folders the run id, are the command line's."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cfx.attributes.interventions import edit_alone
from cfx.errors import UserError
from cfx.images import decode_png
from cfx.metrics.agreement import change_map, cross_examined
from flows.engine import one_thread
from flows.in_process import Report, audit_in_process
from flows.request import Request, configured
from tasks.advice.one_image import Explanation as Explained
from tasks.advice.one_image import calibrated_oracle, explain_image, id_of
from tasks.check import check as checked
from tasks.check import device_of, loaded_prior, prior_of, with_trained
from tasks.config import AuditConfig
from tasks.networks import classifier_for
from tasks.reading.gate import gate
from tasks.training.auto import expect_networks
from tasks.training.taught import Taught, teach_oracle
from tasks.understood import Understood, lines_of
from warehouse.explorer.names import Marks, give_name
from warehouse.lens.connect import query
from warehouse.lens.gate import Gate
from warehouse.lens.notebook import notebook_limits
from warehouse.lens.printable import printable
from warehouse.lens.query_process import answer
from warehouse.report import plots
from warehouse.report.queries import EVIDENCE
from warehouse.report.render import report_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pixels = NDArray[np.uint8]  # (H, W, 3)

RANKED = "from findings where run_id = $run order by rank"
COUNTERFACTUALS = """
    select x.image_id, i.png as input_png, x.png as cf_png, mask_png, source, target, flipped
    from explanations x join images i using (run_id, image_id)
    where run_id = $run and arm = 'guided' and x.png is not null
    order by x.image_id, seed
"""


class Audit:
    """A finished audit: what was found as pandas frames, the gate's verdict, the report, and plots."""

    def __init__(self, root: Path, run: str) -> None:
        self.root, self.run = root, run

    def __repr__(self) -> str:
        found = self.findings[self.findings["verdict"].isin(["confirmed", "suspected", "fragile"])]
        named = ", ".join(f"{row.name} ({row.verdict})" for row in found.itertuples(index=False))
        return f"Audit({self.run!r}): gate {self.gate().verdict}; {named or 'nothing confirmed'}"

    def _repr_html_(self) -> str:
        """The gate's verdict with its reasons, and the findings that are not clear, as a table."""
        held, shown = self.gate(), self.findings[self.findings["verdict"] != "clear"]
        columns = ["kind", "name", "class", "intervention", "low", "high", "verdict", "why"]
        table = shown[columns].head(12).to_html(index=False, float_format="{:+.3f}".format, na_rep="–", border=0)
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in held.reasons[:5])
        report = report_path(self.root, self.run)
        link = f'<a href="{escape(report.absolute().as_uri())}">report</a>' if isinstance(report, Path) else escape(str(report))
        return f"<p><b>Gate: {escape(held.verdict)}</b> · run {escape(self.run)} · {link}</p><ul>{reasons}</ul>{table}"

    def sql(self, text: str, seconds: float = 300, memory: float = 1) -> pd.DataFrame:
        """The answer to one SELECT over the audit's warehouse; `$run` is this run.

        seconds, memory: what it may take, memory in GiB; it runs in a process of its own. Raises UserError for what cannot
        be asked.
        """
        values = {"run": self.run} if "$run" in text else {}
        return answer(self.root, text, values, notebook_limits(seconds, memory), lens=False).rows.to_pandas()

    @cached_property
    def findings(self) -> pd.DataFrame:
        """Attributes, properties and places in one ranked list: the view `findings`."""
        return self._of_run(RANKED)

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """The attributes, with effects, edits and intervals: the view `verdicts`. Empty without an oracle."""
        return self._of_run("from verdicts where run_id = $run order by rank")

    def _of_run(self, sql: str) -> pd.DataFrame:
        return query(self.root, sql, {"run": self.run}).to_pandas()

    def gate(self) -> Gate:
        """pass, fail or inconclusive, with the rules."""
        return gate(self.root, self.run)

    def report(self) -> Path:
        """Where the report is, a page of HTML."""
        return report_path(self.root, self.run)

    def card(self, claim: str) -> pd.DataFrame:
        """Twelve images in which a property or place of `findings` is strongest (`most`) and twelve in which it is weakest.

        Columns: image_id, path, value, and `image`, an array (H, W, 3). Raises UserError for an unknown claim.
        """
        rows = query(self.root, EVIDENCE["carriers"], {"run": self.run}).to_pylist()
        shown = [row for row in rows if row["name"] == claim]
        if not shown:
            known = ", ".join(dict.fromkeys(row["name"] for row in rows))
            raise UserError(f"there is no card of {claim!r}; this run has {known or 'none'}")
        images = query(self.root, "select image_id, path, png from images where run_id = $run", {"run": self.run}).to_pandas()
        held = images.set_index("image_id").loc[[row["image_id"] for row in shown]].reset_index()
        held["image"] = [_pixels(decode_png([png])) for png in held.pop("png")]
        return held.assign(value=[row["value"] for row in shown], most=[row["most"] for row in shown])

    def name(self, claim: str, called: str, has: Iterable[str], lacks: Iterable[str], reviewer: str = "notebook") -> None:
        """Say what a property or place of `findings` is, with images (ids) that have it and that have not, as in the explorer.

        Raises UserError for an unknown claim or image, or a name that cannot be given.
        """
        kinds = self.findings.loc[self.findings["name"] == claim, "kind"].tolist()
        give_name(self.root, self.run, reviewer, (kinds[0] if kinds else "place", claim), called, Marks(list(has), list(lacks)))

    def teach(self, to: str | Path) -> list[Taught]:
        """Write an oracle that knows what was named, for the next audit. Raises UserError where it cannot be learned."""
        return teach_oracle(self.root, self.run, Path(to))

    def counterfactuals(self) -> Counterfactuals:
        """The explained images as a torch Dataset. Empty for an audit without a prior, or that keeps no images."""
        return Counterfactuals(query(self.root, COUNTERFACTUALS, {"run": self.run}).to_pylist())

    def plot_effects(self, ax: Axes | None = None) -> Axes:
        """What moves the answer when it alone is changed: each finding's intervention with its 95 % interval, in points."""
        return plots.plot_effects(self.root, self.run, ax)

    def plot_map(self, of: str | None = None, ax: Axes | None = None) -> Axes:
        """Where the answer comes from: effects of the places over the mean image. of: the class; default: the one moved most."""
        return plots.plot_map(self.root, self.run, of, ax)

    def plot_trend(self, of: str = "accuracy", ax: Axes | None = None) -> Axes:
        """One quantity over the finished audits of this name: accuracy, an attribute, a property … of the view `trend`."""
        [audit] = query(self.root, "select name from runs where run_id = $run", {"run": self.run})["name"].to_pylist()
        return plots.plot_trend(self.root, audit, of, ax)

    def plot_cost(self, ax: Axes | None = None) -> Axes:
        """What the stages of this audit took."""
        return plots.plot_cost(self.root, self.run, ax)


class Counterfactuals(torch.utils.data.Dataset[dict[str, Any]]):
    """Explained images: {image_id, x, x_cf, mask, source, target, flipped}; x, x_cf (3, H, W) and mask (1, H, W) in [0, 1]."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        x, x_cf = ((decode_png([row[name]])[0] + 1) / 2 for name in ("input_png", "cf_png"))
        mask = None if row["mask_png"] is None else (decode_png([row["mask_png"]])[0, :1] + 1) / 2
        known = {name: row[name] for name in ("image_id", "source", "target", "flipped")}
        return known | {"x": x, "x_cf": x_cf, "mask": torch.full_like(x[:1], torch.nan) if mask is None else mask}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As Quantus takes them: x_batch (N, 3, H, W) in [0, 1], y_batch (N,) the predicted classes' names, and a_batch
        (N, 1, H, W), how much each pixel was changed."""
        x, x_cf = (torch.stack([self[i][name] for i in range(len(self))]) for name in ("x", "x_cf"))
        names = np.array([row["source"] for row in self.rows])
        return {"x_batch": x.numpy(), "y_batch": names, "a_batch": change_map(x, x_cf)[:, None].numpy()}

    def agreement(self, attributions: Tensor | NDArray[Any]) -> pd.DataFrame:
        """Does what was changed lie where another tool's attributions say the evidence is? A row an image, a column a measure.

        attributions: (N, h, w), (N, 1, h, w), or (N, 3, H, W), whose channels are added, in the order of this dataset: what
        captum's `attribute` or a Quantus a_batch holds. Raises UserError for another number of images or shape.
        """
        maps = torch.as_tensor(attributions).detach().cpu().float()
        maps = maps.sum(1) if maps.ndim == 4 else maps
        if maps.ndim != 3 or len(maps) != len(self):
            raise UserError(f"attributions: {tuple(np.shape(attributions))} for {len(self)} explained images; give (N, h, w)")
        x, x_cf = (torch.stack([self[i][name] * 2 - 1 for i in range(len(self))]) for name in ("x", "x_cf"))
        measured = {name: values.numpy() for name, values in cross_examined(maps, x, x_cf).items()}
        return pd.DataFrame({"image_id": [row["image_id"] for row in self.rows], **measured})


@dataclass(frozen=True)
class Explanation:
    """One counterfactual. x, x_cf: (H, W, 3) uint8; mask: (H, W) in [0, 1], None for a method without one.

    edits: a row an attribute that the oracle knows, edited alone: p, the target's probability of the edit, p_sham, of the same
    redrawing without the edit, switched_on, and the image; None without an oracle.
    """

    source: str
    target: str
    p_before: float  # of the target
    p_after: float
    flipped: bool
    changed: list[tuple[str, float, float]]  # attribute, its probability before and after, where it crossed one half
    x: Pixels
    x_cf: Pixels
    mask: NDArray[np.float32] | None
    edits: pd.DataFrame | None

    def __repr__(self) -> str:
        became = f"{self.source} → {self.target}: p({self.target}) {self.p_before:.3f} → {self.p_after:.3f}"
        named = ", ".join(f"{name} {before:.2f} → {after:.2f}" for name, before, after in self.changed)
        return f"Explanation({became}{'' if self.flipped else ', did not flip'}{f'; {named}' if named else ''})"

    def plot(self) -> Figure:
        """Input, counterfactual, mask, difference, and the edits that move the answer most."""
        from flows.plots import explanation

        return explanation(self)


def audit(request: Request, progress: bool = True) -> Audit:
    """Audit, in threads of this process. Raises UserError or ConfigError before any work for what cannot be audited."""
    with configured(request) as config, _shown(progress) as report:
        run = checked(config)
        for warning in run.warnings:
            _note(progress, f"warning: {warning}")
        return Audit(run.root, audit_in_process(run, report))


def check(request: Request) -> Checked:
    """What an audit would understand, without running it."""
    with configured(request) as config, one_thread():
        run = checked(config, expect_networks)
    assert run.understood is not None
    return Checked(None if run.understood.pending else run.id, run.understood, run.warnings)


@dataclass(frozen=True)
class Checked:
    """What an audit would understand of a model and images, and its warnings; as text what `cfx check` prints.

    run: the run's id; None where it depends on networks that are yet to be trained.
    """

    run: str | None
    understood: Understood
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        known = (
            f"run {self.run}" if self.run is not None else f"a new run, once {' and '.join(self.understood.pending)} are trained"
        )
        return "\n".join([f"would be {known}", *lines_of(self.understood), *(f"warning: {one}" for one in self.warnings)])


def explain(request: Request, seed: int = 0) -> Explanation:
    """Explain one image. Raises UserError without a prior, and for an image that is already predicted as the target."""
    with configured(request) as settings, one_thread():
        config, device = with_trained(settings), device_of(settings)
        prior_of(config)  # an audit without one is refused before work
        file = _only_file(config)
        found = explain_image(file, config, seed, device)
        edits = _edits(found, id_of(file.read_bytes()), config, device) if config.oracle is not None else None
    mask = None if bool(found.mask.isnan().any()) else found.mask[0, 0].float().cpu().numpy()
    answer = found.source, found.target, found.before, found.after, found.flipped, found.changed
    return Explanation(*answer, _pixels(found.x), _pixels(found.x_cf), mask, edits)


def _only_file(config: AuditConfig) -> Path:
    from tasks.data.ingest import selected

    (name,) = selected(config.data)["file"].to_pylist()
    return Path(config.data.images / name)


def _edits(found: Explained, image_id: str, config: AuditConfig, device: str) -> pd.DataFrame:
    """Each attribute edited alone, and what the classifier makes of it, the strongest first."""
    oracle, classifier = calibrated_oracle(config, device), classifier_for(config.classifier, device)
    assert oracle is not None
    settings, goal = config.interventions, classifier.classes.index(found.target)
    denoiser = loaded_prior(config, device).respaced(settings.steps)
    rows = []
    with torch.no_grad():
        before = oracle(found.x)[0]
        for position, name in enumerate(oracle.attributes):
            if name == config.target_attribute:
                continue
            edit = edit_alone(denoiser, oracle, found.x, position, settings, [image_id])
            p, p_sham = (float(classifier(x).softmax(1)[0, goal]) for x in (edit.x_edit, edit.x_sham))
            on = bool(before[position] <= 0.5)
            done = bool(oracle(edit.x_edit)[0, position] > 0.5) is on
            rows.append((name, on, done, p, p_sham, p - p_sham, _pixels(edit.x_edit)))
    frame = pd.DataFrame(rows, columns=["attribute", "switched_on", "done", "p", "p_sham", "effect", "image"])
    return frame.sort_values("effect", key=abs, ascending=False, ignore_index=True)


def _pixels(x: Tensor) -> Pixels:
    """One image (1, 3, H, W) in [-1, 1] as (H, W, 3) uint8."""
    shown: Pixels = ((x[0].detach().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return shown


@contextmanager
def _shown(progress: bool) -> Iterator[Report | None]:
    """How many shards are done: one line that is written over, in a notebook as on a terminal; nothing elsewhere."""
    if not progress:
        yield None
    elif "ipykernel" in sys.modules:
        from IPython.display import display

        line = display({"text/plain": "starting"}, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        yield lambda done, n: line.update({"text/plain": f"{done} of {n} shards"}, raw=True)
        line.update({"text/plain": "done"}, raw=True)
    elif sys.stderr.isatty():
        yield lambda done, n: print(f"\r{done} of {n} shards", end="" if done < n else "\n", file=sys.stderr)  # noqa: T201
    else:
        yield None


def _note(progress: bool, line: str) -> None:
    if progress:
        print(printable(line), file=sys.stderr)  # noqa: T201
