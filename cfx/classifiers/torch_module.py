"""A torch network as a `Classifier`: softmax heads, one-logit heads, or one column of a multi-label network."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cfx.checkpoint import Facts
from cfx.classifiers.class_names import ClassNames, few, saved_names, twice
from cfx.classifiers.network import Network, NetworkConfig, load_network, weights_path
from cfx.errors import UserError
from cfx.weights_file import kind_of, read_content

Column = Annotated[int, Field(ge=0)]
TINY = torch.finfo(torch.float32).tiny  # a probability of 0 becomes this, so that its logarithm is finite


class ClassifierConfig(NetworkConfig):
    """A torch network in this process: methods that need gradients work on it. This is the access mode when none is named."""

    access: Literal["torch"] = "torch"
    classes: ClassNames | None = Field(
        None,
        description="names in the order of the outputs: a list, a file with one a line (or JSON, as `id2label`), or `imagenet`; "
        "a network trained by cfx, a Hugging Face folder and ImageNet's heads of torchvision and timm bring their own",
    )
    head: Literal["softmax", "sigmoid"] = Field(
        "softmax", description="sigmoid: one logit l, the log-odds of the second class, as a network of one output is understood"
    )
    answers: Literal["logits", "probabilities"] = Field(
        "logits", description="what the network gives; probabilities: it ends in a softmax or sigmoid, whose logarithm is taken"
    )
    output: Column | str | None = Field(
        None,
        description="of a multi-label network, the label to audit: its column, which needs head: sigmoid, or its name, where the "
        "network's file or `classes` names every output; the two classes are then not_NAME and NAME",
    )

    @model_validator(mode="after")
    def _can_work(self) -> ClassifierConfig:
        if isinstance(self.output, int) and self.head == "softmax":
            raise UserError(f"output {self.output} picks one logit out of several, which is yes or no: set `head: sigmoid`")
        if self.classes is not None and (wrong := twice(self.classes)):
            raise UserError(wrong)
        return self


class TorchClassifier(nn.Module):
    """A frozen network with named classes: (B, 3, H, W) in [-1, 1] to logits (B, K) float32. Gradients reach the image."""

    differentiable = True

    def __init__(
        self,
        network: Network,
        classes: tuple[str, ...],
        head: str = "softmax",
        output: int | None = None,
        answers: str = "logits",
    ) -> None:
        super().__init__()
        self.network, self.classes, self.head, self.output, self.answers = network, classes, head, output, answers

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] to logits (B, K) float32."""
        given: Tensor = self.network(x)
        probable = self.answers == "probabilities"
        if self.head == "softmax":
            return given.clamp(min=TINY).log() if probable else given
        column = self.output or 0
        log_odds = given[:, column : column + 1]
        if probable:
            log_odds = log_odds.logit(eps=torch.finfo(log_odds.dtype).eps)
        return torch.cat([torch.zeros_like(log_odds), log_odds], dim=1)  # softmax of [0, l] is sigmoid(l)


def load_classifier(config: ClassifierConfig, device: torch.device | str = "cpu") -> TorchClassifier:
    """The classifier, frozen and in eval mode. `weights` may be `portraits:planted`, `portraits:clean` or `portraits:judge`.

    Raises FileNotFoundError, ImportError or UserError naming what does not fit; one blank image is shown to be sure.

    Examples:
        >>> smiles = load_classifier(ClassifierConfig(weights="portraits:planted"))
        >>> smiles.classes
        ('not_smiling', 'smiling')
        >>> smiles(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 2])
    """
    network, facts = load_network(config, device)
    if "classes" not in facts and (names := _saved(config)):
        facts |= {"classes": names}
    network.notes += _other_order(config.classes, tuple(facts.get("classes", ())))
    outputs = network.outputs()
    if isinstance(config.output, str):
        config = _of_label(config, config.output, facts, network.name, outputs)
    classes = _classes(config, facts, network)
    head = "sigmoid" if outputs == 1 and len(classes) == 2 else config.head  # a softmax of one number says nothing
    _check_outputs(config, network.name, outputs, classes)
    column = config.output if isinstance(config.output, int) else None
    return TorchClassifier(network, classes, head, column, config.answers).eval()


def _saved(config: ClassifierConfig) -> list[str]:
    """The names of the classes beside the weights in a file of torch.save."""
    path = None if config.weights is None else weights_path(config.weights)
    if path is None or not path.is_file() or kind_of(path) != "torch":
        return []
    return saved_names(read_content(path, config.allow_pickle))


def _other_order(said: tuple[str, ...] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """A word where the settings name the classes in another order than who trained the weights."""
    if said is None or said == known or sorted(said) != sorted(known):
        return ()
    return (f"`classes` is {few(said)} in the settings, where it was trained with the order {few(known)}",)


def _of_label(config: ClassifierConfig, label: str, facts: Facts, name: str, outputs: int) -> ClassifierConfig:
    """The settings of yes and no of one label by its name: its column, head sigmoid, and two classes.

    Raises UserError for a label that is not among the names of the outputs, and for outputs that exclude each other.
    """
    labels = tuple(facts.get("attributes", ()))
    own = config.classes if config.classes is not None and len(config.classes) == outputs and label in config.classes else None
    names = own or labels or tuple(facts.get("classes", ()))
    if label not in names:
        there = (
            f"its outputs are called {few(names)}"
            if names
            else "its outputs have no names: give the column, or name all in `classes`"
        )
        raise UserError(f"{name} has no output {label!r}; {there}")
    if not labels and config.head == "softmax":
        raise UserError(
            f"output {label!r} of {name} is one of {len(names)} that may exclude each other; if each is a yes or no of its own, "
            "set `head: sigmoid`"
        )
    classes = config.classes if own is None and config.classes is not None else (f"not_{label}", label)
    return config.model_copy(update={"output": names.index(label), "head": "sigmoid", "classes": classes})


def _classes(config: ClassifierConfig, facts: Facts, network: Network) -> tuple[str, ...]:
    classes = config.classes or tuple(facts.get("classes", ()))
    if classes:
        return classes
    if labels := tuple(facts.get("attributes", ())):
        raise UserError(
            f"{network.name} says yes or no to each of {len(labels)} labels ({few(labels)}); to audit one of them set "
            "`output` to its name"
        )
    raise UserError(
        f"{network.name} does not say what its classes are called; set `classes`, in the order of its outputs: a list, a file "
        "with one name a line, or imagenet"
    )


def _check_outputs(config: ClassifierConfig, name: str, outputs: int, classes: tuple[str, ...]) -> None:
    named = f"{len(classes)} classes ({few(classes)})"
    if len(classes) < 2:
        raise UserError(f"{name} has one class ({few(classes)}); an audit needs two: name them in `classes`")
    if config.head == "softmax" and outputs != len(classes) and (outputs, len(classes)) != (1, 2):
        way_out = "name every output in `classes`, or pick a column with `output`"
        raise UserError(f"{name} gives {outputs} logits for {named}; {way_out}")
    if config.head == "sigmoid" and len(classes) != 2:
        raise UserError(f"head sigmoid tells two classes apart, but there are {named}")
    if isinstance(config.output, int) and config.output >= outputs:
        raise UserError(f"{name} has outputs 0 to {outputs - 1}; output {config.output} is not one of them")
    if config.head == "sigmoid" and config.output is None and outputs != 1:
        raise UserError(f"{name} gives {outputs} logits, head sigmoid needs one; pick it with `output`")
