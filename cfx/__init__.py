"""cfx audits image classifiers: what does an answer rest on, and should it?

`cfx.audit(model, images)` in a program or a notebook; `cfx` on the command line; `cfx.open(warehouse)` to ask what was found.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cfx.version import __version__ as __version__

if TYPE_CHECKING:
    from flows.notebook import Audit, Checked, Explanation
    from warehouse.lens.notebook import Warehouse


def audit(
    model: object,
    images: object,
    *,
    labels: object = None,
    attributes: object = None,
    classes: Sequence[str] | None = None,
    prior: object = None,
    oracle: object = None,
    judge: object = None,
    name: str = "audit",
    warehouse: str | Path = "cfx-audits",
    progress: bool = True,
    **settings: Any,
) -> Audit:
    """Audit a classifier on images, in this process: no YAML, no server, nothing leaves the machine.

    model: a torch module that gives logits (B, K) for (B, 3, H, W), of which a copy is audited; a function from an array to
        probabilities (B, K); a file (weights, TorchScript, ONNX) or folder; `timm:NAME`, `package.module:factory`; or a section
        `classifier` of a YAML file as a dict.
    images: a folder, a list of files, PIL images, arrays (H, W, 3) or tensors (3, H, W), of uint8 or of floats in [0, 1], before
        normalisation; a torch Dataset or DataLoader; a dataset of Hugging Face.
    labels: a class name or number for each image, None where it is unknown; a dataset brings its own.
    attributes: what is known of each image: columns of yes/no by name, a dict of lists or a pandas frame.
    classes: names in the order of the model's outputs, where it does not bring them.
    prior: a diffusion prior (a folder, or `{"train": {…}}`), which counterfactuals and edits need; oracle: the network that names
        attributes; judge: a second classifier. Each may be left out.
    name, warehouse: what the run is called, and the folder of its facts and report.
    settings: all else that a YAML file may say, such as `data={"size": 64}`, `classifier={"mean": …, "std": …}`, `margin=.05`.

    The size that the classifier is shown is `data["size"]`, else its `input_size`, else that of the images where they are alike.
    A run with the same name, model, images and settings is not computed twice. Raises `cfx.errors.UserError`, before any work,
    for what cannot be audited.
    """
    program = _program()
    request = program.Request(model, images, labels, attributes, classes, prior, oracle, judge, name, warehouse, settings)
    return program.audit(request, progress)


def check(
    model: object, images: object, *, labels: object = None, classes: Sequence[str] | None = None, **settings: Any
) -> Checked:
    """What an audit would understand of a model and images, as `cfx check` prints it; nothing is audited.

    Takes what `audit` takes, and raises what it raises. Images that are held in memory are written into the warehouse.
    """
    program = _program()
    named = {key: settings.pop(key) for key in _NAMED if key in settings}
    return program.check(program.Request(model, images, labels, classes=classes, settings=settings, **named))


def explain(model: object, image: object, *, prior: object, oracle: object = None, seed: int = 0, **settings: Any) -> Explanation:
    """What would have to change in an image for the model to change its mind: one counterfactual, with plots.

    Takes what `audit` takes, and one image. `target` is a class, or `second-best`; of two classes the other one. With an oracle,
    `.edits` has each attribute edited alone. Raises `cfx.errors.UserError` for an image that is already predicted as the target.
    """
    program = _program()
    images = [image] if not isinstance(image, list | tuple) else image
    named = {key: settings.pop(key) for key in _NAMED if key in settings}
    return program.explain(program.Request(model, images, prior=prior, oracle=oracle, settings=settings, **named), seed)


def _program() -> ModuleType:
    """Where the work is done, loaded when it is needed. tqdm, which other packages load, would ask a notebook for its widgets."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        import flows.notebook
    return flows.notebook


_NAMED = ("attributes", "classes", "prior", "oracle", "judge", "name", "warehouse")


def open(warehouse: str | Path = "cfx-demo/warehouse") -> Warehouse:
    """A warehouse to ask in a notebook: `cfx.open("cfx-demo/warehouse").sql("from scorecard")` is a pandas frame.

    Raises FileNotFoundError where there is none.

    Examples:
        >>> open("nowhere")
        Traceback (most recent call last):
            ...
        FileNotFoundError: there is no warehouse at nowhere; `cfx demo` makes one at cfx-demo/warehouse
    """
    from warehouse.lens.notebook import Warehouse  # when it is asked for: nothing else of cfx needs the warehouse

    return Warehouse(warehouse)
