"""Whether a torch network is what its settings say: logits, the same for an image whenever and beside whatever it is shown, and
differentiable. What is not is refused, because every number of an audit rests on it."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cfx.classifiers import ClassifierConfig, TorchClassifier
from cfx.classifiers.black_box import SLACK
from cfx.classifiers.probabilities import kind_of
from cfx.errors import UserCodeError, UserError
from tasks.networks import classifier_for, fingerprint

TRIED = 64  # of the audit's images
BATCH = 16  # images at a time
FEW = 8  # images of which it may be chance that all are predicted alike
ALONE = 4  # images that are also shown one by one
SAME = 1e-4  # of the largest logit: how far two answers to one batch may differ
BESIDE = 2e-2  # likewise in batches of other sizes, whose sums have another order; bfloat16 has three digits
LEAVE_OUT = "let it return logits, without its last {}; or set `answers: probabilities`"


def check_answers(classifier: TorchClassifier, x: Tensor) -> tuple[str, ...]:
    """Warnings about the answers to x (N, 3, H, W). Raises UserError, with the way out, for those that cannot be audited."""
    given = _given(classifier, x)
    name, row = classifier.network.name, ", ".join(f"{value:.4g}" for value in given[0][:5])
    kind = kind_of(given)
    if classifier.answers == "probabilities":
        _check_probabilities(classifier, given, row)
    elif kind in ("softmax", "sigmoid"):
        raise UserError(
            f"{name} ends in a {kind}: it answers ({row}), probabilities where logits are expected, and a second "
            f"{classifier.head} would flatten them; {LEAVE_OUT.format(kind)}"
        )
    check_steady(classifier, x[:BATCH])
    if classifier.answers == "logits" and kind == "sigmoid?":
        between = f"between {given.min():.3g} and {given.max():.3g}"
        unsure = f"{name} gives {between} for every image; if it ends in a sigmoid, {LEAVE_OUT.format('sigmoid')}"
        return (*classifier.network.contradicted, unsure)
    return classifier.network.contradicted


@torch.no_grad()
def _given(classifier: TorchClassifier, x: Tensor) -> NDArray[Any]:
    """What the network itself gives, (N, outputs)."""
    try:
        given: NDArray[Any] = torch.cat([classifier.network(part) for part in x.split(BATCH)]).double().cpu().numpy()
    except UserCodeError as error:
        raise classifier.network.at_size(error, x.shape[-2], x.shape[-1]) from error
    return given


def _check_probabilities(classifier: TorchClassifier, given: NDArray[Any], row: str) -> None:
    """Raises UserError for answers that are no probabilities though they are said to be."""
    name = classifier.network.name
    if given.min() < -SLACK or given.max() > 1 + SLACK:
        raise UserError(f"{name} answers ({row}), which are not probabilities; leave `answers: probabilities` out")
    if classifier.head == "softmax" and abs(given.sum(1) - 1).max() > SLACK:
        raise UserError(
            f"{name} answers ({row}), which do not add up to 1; of yes-or-no outputs pick one: `output` and `head: sigmoid`"
        )


def check_steady(classifier: TorchClassifier, x: Tensor) -> None:
    """Raises UserError where an image's logits change from call to call, or with the images beside it."""
    with torch.no_grad():
        logits, again = classifier(x), classifier(x)
    name, scale = classifier.network.name, float((logits - logits.mean(1, keepdim=True)).abs().max())
    apart = float((logits - again).abs().max())
    if apart > SAME * scale:
        raise UserError(
            f"{name} answers the same images differently when queried again (logits differ by {apart:.3g}): dropout or another "
            "source of chance is at work; switch it off in `forward`, as `module.eval()` does for layers"
        )
    try:
        with torch.no_grad():
            alone = torch.cat([classifier(one) for one in x[:ALONE].split(1)])
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{name} cannot answer about one image alone ({_cause(error)}); {_STATISTICS}") from error
    apart = float((logits[:ALONE] - alone).abs().max())
    if apart > BESIDE * scale:
        raise UserError(
            f"{name} answers an image alone otherwise than beside others (logits differ by {apart:.3g}); {_STATISTICS}"
        )


_STATISTICS = "it normalises by the batch, as batch normalisation does in training mode: let it use its running statistics"


def check_gradient(classifier: TorchClassifier, x: Tensor) -> None:
    """Raises UserError where no gradient reaches the image, which methods that explain and maps of saliency follow."""
    name, seen = classifier.network.name, x[:ALONE].clone().requires_grad_()
    way_out = "return logits that depend on the image through differentiable operations, or audit it as `access: callable`"
    try:
        with torch.enable_grad():
            logits = classifier(seen)
            if not logits.requires_grad:
                raise UserError(
                    f"{name} gives no gradient: its answer is detached from the image (no_grad, detach, inference_mode, NumPy?); "
                    + way_out
                )
            weights = torch.arange(1.0, logits.shape[1] + 1, device=logits.device)
            (gradient,) = torch.autograd.grad((logits * weights).sum(), seen, allow_unused=True)
    except (RuntimeError, UserCodeError) as error:
        raise UserError(f"{name} fails where its gradient is needed ({_cause(error)}); {way_out}") from error
    varied = len(x) > 1 and not torch.equal(logits, logits[:1].expand_as(logits))
    if gradient is None or (varied and not gradient.any()):  # of a constant there is no other
        raise UserError(f"{name} gives a gradient of zero at every pixel: something rounds or detaches the image; {way_out}")
    if not gradient.isfinite().all():
        raise UserError(f"{name} gives a gradient that is NaN or infinite; {way_out}")


@torch.no_grad()
def one_class_warnings(classifier: TorchClassifier, x: Tensor) -> tuple[str, ...]:
    """What to say where all images x (N, 3, H, W) are predicted as one class."""
    predicted = torch.cat([classifier(part).argmax(1) for part in x.split(BATCH)]).unique()
    if len(x) < FEW or len(predicted) > 1:
        return ()
    return (
        f"all {len(x)} images tried are predicted as {classifier.classes[int(predicted[0])]!r}, so there are no two classes to "
        "compare: are these images of several, and are `mean`, `std`, `input_size` and the order of classes right?",
    )


def factory_warnings(config: ClassifierConfig, network: nn.Module, device: str) -> tuple[str, ...]:
    """What to say of a network without a file of weights that is another one each time it is made."""
    if config.weights is not None or fingerprint(classifier_for(config, device)) == fingerprint(network):
        return ()
    return (
        f"{config.module} makes a network with other weights each time, so it is untrained, and cannot be audited a second time: "
        "give the file of its `weights`",
    )


def _cause(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
