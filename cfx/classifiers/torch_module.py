"""A torch network as a `Classifier`: softmax heads, one-logit heads, or one column of a multi-label network."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cfx.checkpoint import Facts
from cfx.classifiers.network import Network, NetworkConfig, load_network
from cfx.errors import UserError

TINY = torch.finfo(torch.float32).tiny  # a probability of 0 becomes this, so that its logarithm is finite


class ClassifierConfig(NetworkConfig):
    """A torch network in this process: methods that need gradients work on it. This is the access mode when none is named."""

    access: Literal["torch"] = "torch"
    classes: tuple[str, ...] | None = Field(
        None, min_length=2, description="names in the order of the outputs; a network trained by cfx brings its own"
    )
    head: Literal["softmax", "sigmoid"] = Field(
        "softmax", description="sigmoid: one logit l, the log-odds of the second class, as a network of one output is understood"
    )
    answers: Literal["logits", "probabilities"] = Field(
        "logits", description="what the network gives; probabilities: it ends in a softmax or sigmoid, whose logarithm is taken"
    )
    output: int | None = Field(None, ge=0, description="of a multi-label network, the column to use; needs head: sigmoid")

    @model_validator(mode="after")
    def _can_work(self) -> ClassifierConfig:
        if self.output is not None and self.head == "softmax":
            raise UserError(f"output {self.output} picks one logit out of several, which is yes or no: set `head: sigmoid`")
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise UserError(f"classes {', '.join(self.classes)}: every class needs a name of its own")
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
    classes = _classes(config, facts, network)
    outputs = network.outputs()
    head = "sigmoid" if outputs == 1 and len(classes) == 2 else config.head  # a softmax of one number says nothing
    _check_outputs(config, network.name, outputs, classes)
    return TorchClassifier(network, classes, head, config.output, config.answers).eval()


def _classes(config: ClassifierConfig, facts: Facts, network: Network) -> tuple[str, ...]:
    classes = config.classes or tuple(facts.get("classes", ()))
    if classes:
        return classes
    if "attributes" in facts:
        attributes = ", ".join(facts["attributes"])
        raise UserError(
            f"{network.name} is an oracle ({attributes}); to audit one of these set `output`, `head: sigmoid`, `classes`"
        )
    raise UserError(f"{network.name} does not say what its classes are called; set `classes`, in the order of its outputs")


def _check_outputs(config: ClassifierConfig, name: str, outputs: int, classes: tuple[str, ...]) -> None:
    named = f"{len(classes)} classes ({', '.join(classes)})"
    if config.head == "softmax" and outputs != len(classes) and (outputs, len(classes)) != (1, 2):
        way_out = "name every output in `classes`, or pick a column with `output`"
        raise UserError(f"{name} gives {outputs} logits for {named}; {way_out}")
    if config.head == "sigmoid" and len(classes) != 2:
        raise UserError(f"head sigmoid tells two classes apart, but there are {named}")
    if config.output is not None and config.output >= outputs:
        raise UserError(f"{name} has outputs 0 to {outputs - 1}; output {config.output} is not one of them")
    if config.head == "sigmoid" and config.output is None and outputs != 1:
        raise UserError(f"{name} gives {outputs} logits, head sigmoid needs one; pick it with `output`")
