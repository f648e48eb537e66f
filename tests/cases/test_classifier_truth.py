"""A classifier that is not what its settings say is refused, or warned about where people look; one that is passes in silence."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import batch_norm, dropout
from torchvision.models import get_model
from typer.testing import CliRunner

from cfx.classifiers import ClassifierConfig, TorchClassifier, load_black_box, load_classifier
from cfx.classifiers.network import Network, NetworkConfig
from cfx.classifiers.probabilities import kind_of
from cfx.classifiers.python_function import CallableConfig
from cfx.errors import ConfigError, UserError
from cfx.portraits import write_portraits
from flows.cli import app
from flows.demo import FOUND
from tasks.advice.accuracy_check import accuracy_warnings, no_better_than_chance, other_order
from tasks.advice.classifier_check import check_answers, check_gradient, one_class_warnings
from tasks.check import check
from tasks.config import AuditConfig
from tasks.data.ingest import DataConfig, labelled_sample
from tasks.data.labels import match_labels
from tasks.run import Run
from tasks.stages.ingest import ingest
from tasks.stages.predict import predict
from tasks.stages.run_record import finish_run, start_run
from warehouse.facts.query_ledger import QueryLedger
from warehouse.lens.connect import query
from warehouse.report.render import report_html

N, SIDE = 48, 16
COLOURS = ("red", "green", "blue")


def images(n: int = N, side: int = SIDE) -> tuple[Tensor, list[str | None]]:
    """Grey noise on which one channel is brighter, by class in turn: (N, 3, side, side) in [-1, 1] and the names."""
    generator = torch.Generator().manual_seed(0)
    x = 0.5 * torch.rand(n, 1, side, side, generator=generator).expand(n, 3, side, side).clone() - 0.7
    for i in range(n):
        x[i, i % 3] += 0.5
    return x, [COLOURS[i % 3] for i in range(n)]


class Colour(nn.Module):
    """Logits are the mean brightness of each channel, times ten: right about every image."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(10.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x.mean((2, 3))


class Ends(Colour):
    """The same with something after it, or before it."""

    def __init__(self, after: Callable[[Tensor], Tensor] = lambda y: y, before: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.after, self.before = after, before

    def forward(self, x: Tensor) -> Tensor:
        return self.after(super().forward(self.before(x)))


class TrainMode(nn.Module):
    """A layer that is left in training mode, whatever `eval()` says."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.colour = layer, Colour()

    def forward(self, x: Tensor) -> Tensor:
        self.layer.train()
        return self.colour(self.layer(x))


class Detached(Colour):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x)


class Inference(Colour):
    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Grows(Colour):
    """Answers otherwise at each call."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) + self.calls * torch.tensor([0.0, 1.0, 0.0])


class NeedsTwo(Colour):
    """As batch normalisation of vectors in training mode."""

    def forward(self, x: Tensor) -> Tensor:
        return 10 * batch_norm(super().forward(x), None, None, training=True)


class OneLogit(nn.Module):
    """Log-odds that the image is redder than green; with a sigmoid behind it if so wished."""

    def __init__(self, squashed: bool = False) -> None:
        super().__init__()
        self.squashed = squashed

    def forward(self, x: Tensor) -> Tensor:
        odds = 20 * (x[:, 0] - x[:, 1]).mean((1, 2))[:, None]
        return odds.sigmoid() if self.squashed else odds


def behind(module: nn.Module, classes: tuple[str, ...] = COLOURS, **settings: Any) -> TorchClassifier:
    """This network as a classifier whose settings are these."""
    kinds = {name: settings.pop(name) for name in ("head", "output", "answers") if name in settings}
    network = Network(module, "net", NetworkConfig(module="a:b", **settings), {}).eval().requires_grad_(False)
    return TorchClassifier(network, classes, **kinds).eval()


def seeded(x: Tensor) -> Tensor:
    """The same noise at each call, another for each place in a batch."""
    return x + torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


REFUSED: dict[str, tuple[TorchClassifier, str]] = {
    "softmax inside": (behind(Ends(lambda y: y.softmax(1))), r"net ends in a softmax.*answers: probabilities"),
    "softmax in half precision": (behind(Ends(lambda y: y.softmax(1).half().float())), "net ends in a softmax"),
    "percentages": (behind(Ends(lambda y: 100 * y.softmax(1))), "net ends in a softmax"),
    "one-hot votes": (behind(Ends(lambda y: (y == y.amax(1, keepdim=True)).float() + 0 * y)), "net ends in a softmax"),
    "sigmoid inside": (behind(Ends(lambda y: y.sigmoid(), lambda x: 3 * (x + 0.4))), "net ends in a sigmoid"),
    "sigmoid behind one logit": (behind(OneLogit(True), ("green", "red"), head="sigmoid"), "net ends in a sigmoid"),
    "one column of a sigmoid": (
        behind(Ends(lambda y: y.sigmoid(), lambda x: 3 * (x + 0.4)), ("other", "red"), head="sigmoid", output=0),
        "net ends in a sigmoid",
    ),
    "one column of a softmax": (
        behind(Ends(lambda y: y.softmax(1)), ("other", "red"), head="sigmoid", output=0),
        "net ends in a softmax",
    ),
    "logits said to be probabilities": (behind(Colour(), answers="probabilities"), "are not probabilities; leave `answers"),
    "sigmoids said to be a softmax": (
        behind(Ends(lambda y: y.sigmoid()), answers="probabilities"),
        "do not add up to 1.*`output` and `head: sigmoid`",
    ),
    "dropout always on": (behind(Ends(lambda y: dropout(y, 0.5))), "differently when queried again.*dropout"),
    "dropout layer in training mode": (behind(TrainMode(nn.Dropout(0.2))), "differently when queried again"),
    "noise in forward": (behind(Ends(before=lambda x: x + 0.3 * torch.randn_like(x))), "differently when queried again"),
    "a call changes the next": (behind(Grows()), "differently when queried again"),
    "batch norm in training mode": (
        behind(TrainMode(nn.BatchNorm2d(3))),
        "alone otherwise than beside others.*running",
    ),
    "batch norm without statistics": (
        behind(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), Colour())),
        "alone otherwise than beside others",
    ),
    "scaled by the batch's largest": (behind(Ends(lambda y: 10 * y / y.abs().max())), "alone otherwise than beside others"),
    "centred on the batch": (behind(Ends(before=lambda x: x - x.mean((0, 2, 3), keepdim=True))), "alone otherwise"),
    "noise by place in the batch": (behind(Ends(before=seeded)), "alone otherwise|queried again"),
    "needs two images": (behind(NeedsTwo()), "cannot answer about one image alone.*more than 1 value"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_answers_that_cannot_be_audited_are_refused(case: str) -> None:
    torch.manual_seed(0)
    classifier, words = REFUSED[case]
    with pytest.raises(UserError, match=words):
        check_answers(classifier, images()[0])


GRADIENTS: dict[str, tuple[nn.Module, str]] = {
    "no_grad": (Detached(), "gives no gradient.*detached"),
    "inference_mode": (Inference(), "gives no gradient"),
    "detach": (Ends(lambda y: y.detach()), "gives no gradient"),
    "NumPy": (Ends(before=lambda x: torch.from_numpy(x.numpy())), "fails where its gradient is needed.*requires grad"),
    "whole pixel values": (Ends(before=lambda x: (x * 127.5).round() / 127.5), "gradient of zero"),
    "changed in place": (Ends(lambda y: y.exp().mul_(1).add_(y.exp_())), "gradient is needed|gradient"),
}


@pytest.mark.parametrize("case", GRADIENTS)
def test_a_network_that_gives_no_gradient_is_refused_before_a_method_follows_it(case: str) -> None:
    module, words = GRADIENTS[case]
    with pytest.raises(UserError, match=words):
        check_gradient(behind(module), images()[0])


class Tiny(nn.Sequential):
    """A convolution, batch normalisation and dropout, as they should be: in eval mode."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.LazyLinear(3))
        self(torch.zeros(2, 3, SIDE, SIDE))


class Standardises(Colour):
    """Normalises each image by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True))


class Brain(Colour):
    """Computes in bfloat16: three digits."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.bfloat16().float()).bfloat16()


RIGHT: dict[str, TorchClassifier] = {
    "logits": behind(Colour()),
    "log-probabilities": behind(Ends(lambda y: y.log_softmax(1))),
    "probabilities that are said to be": behind(Ends(lambda y: y.softmax(1)), answers="probabilities"),
    "a sigmoid that is said to be": behind(OneLogit(True), ("green", "red"), head="sigmoid", answers="probabilities"),
    "one logit": behind(OneLogit(), ("green", "red"), head="sigmoid"),
    "positive logits": behind(Ends(lambda y: y + 20)),
    "logits that never differ by more than 1": behind(Ends(lambda y: (y / 10).tanh())),
    "layers in eval mode": behind(Tiny()),
    "by itself standardised": behind(Standardises()),
    "bfloat16": behind(Brain()),
    "the same of every image": behind(Ends(lambda y: 0 * y + torch.tensor([9.0, 0.0, 0.0]))),
    "group norm": behind(nn.Sequential(nn.GroupNorm(3, 3), nn.Conv2d(3, 3, 3), Colour())),
    "timm": behind(timm.create_model("test_convnext", num_classes=3), input_size=64),
    "torchvision": behind(get_model("shufflenet_v2_x0_5", weights=None, num_classes=3), input_size=32),
}


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_network_passes_in_silence(case: str) -> None:
    x, _ = images()
    assert check_answers(RIGHT[case], x) == ()
    check_gradient(RIGHT[case], x)


def test_a_sigmoid_that_is_not_sure_of_itself_is_warned_about() -> None:
    (warning,) = check_answers(behind(Ends(lambda y: (y / 10).sigmoid())), images()[0])
    assert "if it ends in a sigmoid" in warning


@pytest.mark.parametrize("answers", ["softmax", "sigmoid"])
def test_probabilities_that_are_said_to_be_give_the_same_classifier_as_their_logits(answers: str) -> None:
    x, _ = images()
    if answers == "softmax":
        plain, squashed = behind(Colour()), behind(Ends(lambda y: y.softmax(1)), answers="probabilities")
    else:
        two: dict[str, Any] = {"classes": ("green", "red"), "head": "sigmoid"}
        plain, squashed = behind(OneLogit(), **two), behind(OneLogit(True), **two, answers="probabilities")
    torch.testing.assert_close(plain(x).softmax(1), squashed(x).softmax(1))


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ([[0.2, 0.8]], "softmax"),
        ([[0.2, 0.8001]], "logits"),  # one image: by chance
        ([[0.2, 0.8001]] * 8, "softmax"),
        ([[20.0, 80.0]], "softmax"),
        ([[-0.2, 1.2]] * 8, "logits"),
        ([[0.05], [0.95]] * 4, "sigmoid"),
        ([[0.05], [0.95]] * 3, "logits"),  # too few to tell
        ([[0.4], [0.6]] * 4, "sigmoid?"),
        ([[0.05], [1.05]] * 4, "logits"),
        ([[1.0]] * 8, "sigmoid?"),
    ],
)
def test_probabilities_are_told_from_logits(answers: list[list[float]], kind: str) -> None:
    assert kind_of(np.array(answers)) == kind


# What labels tell


def right_at(side: int) -> nn.Module:
    """Knows the colour only of images of this side: all others look red."""
    return Ends(before=lambda x: x if x.shape[-1] == side else 0 * x + torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1))


def window(low: float, high: float) -> nn.Module:
    """Knows the colour only where the values are in this range: elsewhere it says the first class."""

    def before(x: Tensor) -> Tensor:
        lowest, highest = x.flatten(1).aminmax(dim=1)
        fits = (lowest >= low) & (highest <= high) & (highest > 0.2 * high) & ((lowest < 0) == (low < 0))
        return torch.where(fits.view(-1, 1, 1, 1), x, torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)) * 10 / high

    return Ends(before=before)


WRONG: dict[str, tuple[TorchClassifier, str]] = {
    "order turned": (
        behind(Colour(), ("blue", "red", "green")),
        r"classifier|right about 0 of 48 .*no better than chance, but about 48 .*`classes: \[red, green, blue\]`",
    ),
    "two classes exchanged": (behind(Colour(), ("red", "blue", "green")), r"about 16 of 48.*`classes: \[red, green, blue\]`"),
    "channels BGR": (behind(Ends(before=lambda x: x.flip(1))), r"about 16 of 48.*`classes: \[blue, green, red\]`"),
    "always the same": (behind(Ends(lambda y: 0 * y + torch.tensor([1.0, 0, 0]))), "16 of 48.*no better than chance: check"),
    "another size": (behind(right_at(32)), "but about 48 with `input_size: 32`"),
    "another size than is set": (behind(right_at(64), input_size=32), "but about 48 with `input_size: 64`"),
    "[0, 1] expected": (behind(window(0, 1)), r"but about 48 with `mean: \[0.0, 0.0, 0.0\]` and `std: \[1.0, 1.0, 1.0\]`"),
    "[0, 255] expected": (behind(window(0, 255.5)), r"but about 48 with .*`std: \[0.00392"),
    "[-1, 1] expected": (
        behind(window(-1.01, 1.01), mean=(0.485, 0.456, 0.406), std=(0.1, 0.1, 0.1)),
        r"but about 48 with `mean: \[0.5, 0.5, 0.5\]` and `std: \[0.5, 0.5, 0.5\]`",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_labels_show_to_be_wrong_is_warned_about_with_the_way_out(case: str) -> None:
    classifier, words = WRONG[case]
    accuracy, warnings = accuracy_warnings(classifier, *images())
    assert accuracy is not None and accuracy.n == N and accuracy.right <= N / 2
    (warning,) = warnings
    assert re.search(words, warning), warning


def test_channels_in_another_order_are_told_from_classes_in_another_order() -> None:
    """Red or green, seen as BGR: red is never seen, and no order of the two classes mends that."""
    x, names = images()
    two = [place for place, name in enumerate(names) if name != "blue"]
    last = nn.Linear(3, 1)
    with torch.no_grad():
        last.weight.copy_(torch.tensor([[1.0, -1.0, 0.0]]))
        last.bias.fill_(-1.0)
    redder = nn.Sequential(Ends(before=lambda x: x.flip(1)), last)
    classifier = behind(redder, ("green", "red"), head="sigmoid")
    (warning,) = accuracy_warnings(classifier, x[two], [names[place] for place in two])[1]
    assert "about 16 of 32" in warning and "but about 32 with the channels in the order BGR" in warning


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"input_size": 32}, "`input_size` is 32 in the settings, where the file says 64"),
        ({"mean": (0.0, 0.0, 0.0)}, r"`mean` is \(0.0, 0.0, 0.0\) in the settings, where the file says \(0.5, 0.5, 0.5\)"),
        ({"std": (0.229, 0.224, 0.225)}, "`std` is"),
        ({"input_size": 64, "mean": (0.5, 0.5, 0.5)}, None),
    ],
)
def test_settings_that_contradict_the_file_of_the_weights_are_warned_about(settings: dict[str, Any], words: str | None) -> None:
    classifier = load_classifier(ClassifierConfig(weights=Path("portraits:clean"), **settings))
    found = check_answers(classifier, images(16, 64)[0])
    assert (found == ()) if words is None else re.search(words, " ".join(found))


def test_a_network_that_cannot_take_the_images_is_refused_with_their_size() -> None:
    network = Network(timm.create_model("test_convnext", num_classes=3), "net", NetworkConfig(module="timm:test_convnext"), {})
    with pytest.raises(UserError, match="net fails on 16 images of 16 x 16.*set `input_size`"):
        check_answers(TorchClassifier(network.eval(), COLOURS), images()[0])


@pytest.mark.parametrize("case", ["logits", "log-probabilities", "probabilities that are said to be", "bfloat16"])
def test_a_classifier_that_is_right_is_not_warned_about(case: str) -> None:
    accuracy, warnings = accuracy_warnings(RIGHT[case], *images())
    assert accuracy is not None and accuracy.right == N and warnings == ()


@pytest.mark.parametrize("n", [3, 9, 24])
def test_few_images_do_not_cry_wolf(n: int) -> None:
    x, names = images(n)
    mistaken: list[str | None] = [names[0], *names[:-1]]  # every third is right by chance at most
    assert accuracy_warnings(behind(Colour()), x, names)[1] == ()
    assert (accuracy_warnings(behind(Colour()), x, mistaken)[1] == ()) == (n < 8)


def test_without_labels_nothing_is_said() -> None:
    assert accuracy_warnings(behind(Colour()), images()[0], [None] * N) == (None, ())


def test_large_images_are_shown_a_few_at_a_time() -> None:
    shown: list[int] = []

    def counted(x: Tensor) -> Tensor:
        shown.append(len(x))
        return x

    x, names = images(n=12, side=SIDE)
    large = x.repeat_interleave(16, 2).repeat_interleave(16, 3)  # 256 x 256: four are 2^18 pixels
    accuracy, _ = accuracy_warnings(behind(Ends(before=counted)), large, names)
    assert accuracy is not None and accuracy.right == 12 and shown == [4, 4, 4]


def test_a_biased_classifier_is_no_matter_of_order_or_of_chance() -> None:
    """Four of five right, and all errors to one side: no warning, because nothing else explains them."""
    truth = np.repeat([0, 1], 40)
    said = np.where((truth == 1) & (np.arange(80) % 5 < 2), 0, truth)
    assert other_order(said, truth, ("a", "b")) is None and not no_better_than_chance(said, truth, 2)


def test_of_many_classes_with_one_image_each_no_order_is_made_up() -> None:
    """An assignment that fits 64 images of 64 labels always exists, and says nothing."""
    truth, said = np.arange(64), np.random.default_rng(0).permutation(64)
    assert other_order(said, truth, [f"c{i}" for i in range(1000)]) is None
    assert no_better_than_chance(said, truth, 1000)


def test_how_often_chance_alone_raises_an_alarm_about_order() -> None:
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(200):
        truth = np.arange(64) % 4
        alarms += other_order(random.integers(0, 4, 64), truth, tuple("abcd")) is not None
    assert alarms <= 6  # 1 in 100, and a gain of a tenth besides


# Labels and classes

SMILES = ("not_smiling", "smiling")
MATCHED: dict[str, tuple[list[str], tuple[str, ...], str, dict[str, str | None], list[str | None]]] = {
    "the same": (["smiling", "not_smiling"], SMILES, "label", {}, ["smiling", "not_smiling"]),
    "blanks": ([" smiling", "not_smiling "], SMILES, "label", {}, ["smiling", "not_smiling"]),
    "blanks inside": (["not smiling", "smiling"], SMILES, "label", {}, ["not_smiling", "smiling"]),
    "case": (["Smiling", "NOT_SMILING"], SMILES, "label", {}, ["smiling", "not_smiling"]),
    "dashes": (["not-smiling", "smiling"], SMILES, "label", {}, ["not_smiling", "smiling"]),
    "no-break space": (["not\u00a0smiling", "smiling"], SMILES, "label", {}, ["not_smiling", "smiling"]),
    "zero-width": (["\ufeffsmiling", "not_smil\u200bing"], SMILES, "label", {}, ["smiling", "not_smiling"]),
    "NFD": ([unicodedata.normalize("NFD", "café"), "thé"], ("thé", "café"), "label", {}, ["café", "thé"]),
    "NFD in the classes": (["café", "thé"], ("thé", unicodedata.normalize("NFD", "café")), "label", {}, ["cafe\u0301", "thé"]),
    "sharp s": (["STRASSE", "Weg"], ("weg", "straße"), "label", {}, ["straße", "weg"]),
    "full width": (["ｃａｔ", "dog"], ("cat", "dog"), "label", {}, ["cat", "dog"]),
    "exact before alike": (["a", "A"], ("A", "a"), "label", {}, ["a", "A"]),
    "numbers": (["3", "10"], ("10", "3"), "label", {}, ["3", "10"]),
    "numbers as floats": (["3.0", "10.0"], ("10", "3"), "label", {}, ["3", "10"]),
    "fewer labels than classes": (["cat"], ("cat", "dog", "fox"), "label", {}, ["cat"]),
    "not the one, so the other": (["not_smiling", "smiling"], ("plain", "smiling"), "label", {}, ["plain", "smiling"]),
    "CelebA's recipe": (["true", "false"], SMILES, "Smiling", {}, ["smiling", "not_smiling"]),
    "CelebA's own": (["1", "-1"], SMILES, "Smiling", {}, ["smiling", "not_smiling"]),
    "zero and one": (["0", "1"], SMILES, "Smiling", {}, ["not_smiling", "smiling"]),
    "one answer alone": (["1"], SMILES, "Smiling", {}, ["smiling"]),
    "classes the other way round": (["0", "1"], ("smiling", "not_smiling"), "Smiling", {}, ["not_smiling", "smiling"]),
    "no_": (["false", "true"], ("no_hat", "hat"), "Hat", {}, ["no_hat", "hat"]),
    "non-": (["0", "1"], ("smoker", "non-smoker"), "smoker", {}, ["non-smoker", "smoker"]),
    "without": (["0", "1"], ("without glasses", "glasses"), "Glasses", {}, ["without glasses", "glasses"]),
    "no and yes": (["0", "1"], ("no", "yes"), "label", {}, ["no", "yes"]),
    "yes and no": (["true", "false"], ("yes", "no"), "label", {}, ["yes", "no"]),
    "negative and positive": (["0", "1"], ("positive", "negative"), "label", {}, ["negative", "positive"]),
    "no and the column": (["0", "1"], ("no", "glasses"), "glasses", {}, ["no", "glasses"]),
    "said": (["0", "1"], ("cat", "dog"), "label", {"0": "cat", "1": "dog"}, ["cat", "dog"]),
    "said as floats": (["0.0", "1.0"], ("cat", "dog"), "label", {"0": "dog", "1": "cat"}, ["dog", "cat"]),
    "said of some": (["cat", "hound"], ("cat", "dog"), "label", {"hound": "dog"}, ["cat", "dog"]),
    "said to be none": (["cat", "unsure"], ("cat", "dog"), "label", {"unsure": None}, ["cat", None]),
    "said against the name": (["cat", "dog"], ("cat", "dog"), "label", {"cat": "dog", "dog": "cat"}, ["dog", "cat"]),
}


@pytest.mark.parametrize("case", MATCHED)
def test_labels_are_matched_to_classes(case: str) -> None:
    labels, classes, column, named, expected = MATCHED[case]
    found = match_labels(labels, classes, column, named)
    assert [found[label] for label in labels] == expected


UNMATCHED: dict[str, tuple[list[str], tuple[str, ...], str, dict[str, str | None], str]] = {
    "numbers for names": (["0", "1"], ("cat", "dog"), "label", {}, r"'0', '1'.*cat, dog.*`data.labels: {0: cat, 1: dog}`"),
    "numbers of a column that says nothing": (["0", "1"], SMILES, "label", {}, "'0', '1'.*not_smiling, smiling"),
    "true and false": (["true", "false"], ("cat", "dog"), "label", {}, "true: dog, false: cat"),
    "an attribute of something else": (["0", "1"], SMILES, "Glasses", {}, "'0', '1'.*not_smiling, smiling"),
    "an attribute and two names": (["0", "1"], ("male", "female"), "Male", {}, r"{0: female, 1: male}"),
    "three classes by number": (["0", "1", "2"], ("a", "b", "c"), "label", {}, "'0', '1', '2'.*a, b, c"),
    "another task": (["cat", "dog"], SMILES, "label", {}, "'cat', 'dog'.*not_smiling, smiling.*leave label_column out"),
    "one that is no class": (["smiling", "not_smiling", "grin"], SMILES, "label", {}, r"holds 'grin',.*null for no label"),
    "yes and something": (["yes", "cat"], ("cat", "dog"), "label", {}, r"holds 'yes',"),
    "case that two classes differ by": (["CAT", "Dog"], ("cat", "Cat", "Dog"), "label", {}, "holds 'CAT'"),
    "said to be no class": (["0", "1"], ("cat", "dog"), "label", {"0": "cta"}, "labels: 0: cta is no class.*cat, dog"),
    "said of one alone": (["0", "1"], ("cat", "dog"), "label", {"0": "cat"}, "holds '1'"),
}


@pytest.mark.parametrize("case", UNMATCHED)
def test_labels_that_cannot_be_matched_are_refused_with_both_lists(case: str) -> None:
    labels, classes, column, named, words = UNMATCHED[case]
    with pytest.raises(UserError, match=words):
        match_labels(labels, classes, column, named)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({0: "cat", 1: "dog"}, {"0": "cat", "1": "dog"}),
        ({True: "cat", False: None}, {"true": "cat", "false": None}),
    ],
)
def test_labels_are_read_as_yaml_holds_them(given: dict[Any, Any], kept: dict[str, str | None]) -> None:
    assert DataConfig(images=Path("a"), table=Path("b"), labels=given).labels == kept


# Black boxes: nothing is queried for it


def of_a_function(name: str, **settings: Any) -> CallableConfig:
    return CallableConfig(access="callable", module=f"{__name__}:{name}", classes=COLOURS, **settings)


def says_probabilities(shown: np.ndarray) -> np.ndarray:
    logits = torch.from_numpy(shown).mean((2, 3)) * 20
    return logits.softmax(1).numpy()


def says_logits(shown: np.ndarray) -> np.ndarray:
    return 20 * shown.mean((2, 3))


def says_sigmoids(shown: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-shown.mean((2, 3))))


def test_a_black_box_that_answers_probabilities_for_logits_is_refused_at_its_first_answer() -> None:
    x, _ = images()
    box = load_black_box(of_a_function("says_probabilities", answers="logits"), QueryLedger(None, "f", None))
    with pytest.raises(UserError, match="which are probabilities; set `answers: probabilities`"):
        box(x)
    right = load_black_box(of_a_function("says_probabilities"), QueryLedger(None, "f", None))
    logits = load_black_box(of_a_function("says_logits", answers="logits"), QueryLedger(None, "f", None))
    torch.testing.assert_close(right(x).softmax(1), logits(x).softmax(1))


# The whole of it


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Coloured images with their names; colour by number; portraits."""
    folder = tmp_path_factory.mktemp("truth")
    (folder / "colours").mkdir()
    x, names = images()
    rows = []
    for i, (image, name) in enumerate(zip(x, names, strict=True)):
        pixels = ((image + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / "colours" / f"{i:03d}.png")
        rows.append(f"{i:03d}.png,{name},{COLOURS.index(str(name))},{'' if i else name}")
    (folder / "colours.csv").write_text("file,label,number,few\n" + "\n".join(rows))
    write_portraits(folder / "portraits", 24, seed=2)
    return folder


def make(kind: str = "right") -> nn.Module:
    """The factory that the audits below name."""
    torch.manual_seed(0)
    return {
        "right": Colour,
        "softmax": lambda: Ends(lambda y: y.softmax(1)),
        "dropout": lambda: Ends(lambda y: dropout(y, 0.5)),
        "detached": Detached,
    }[kind]()


def untrained() -> nn.Module:
    network = Colour()
    nn.init.normal_(network.gain, 10, 1)
    return network


def config_of(folder: Path, **more: Any) -> AuditConfig:
    settings = {
        "name": "trial",
        "warehouse": folder / "warehouse",
        "data": {"images": folder / "colours", "table": folder / "colours.csv", "label_column": "label", "size": SIDE},
        "classifier": {"module": f"{__name__}:make", "classes": COLOURS},
        "target": "second-best",
        "device": "cpu",
    }
    return AuditConfig.model_validate(settings | more)


def kind(name: str, *classes: str) -> dict[str, Any]:
    return {"module": f"{__name__}:make", "kwargs": {"kind": name}, "classes": classes or COLOURS}


def data(folder: Path, **more: Any) -> dict[str, Any]:
    return config_of(folder).data.model_dump() | more


ORACLE = {"oracle": {"weights": "portraits:oracle"}}
AUDITS: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "softmax": (lambda _: {"classifier": kind("softmax")}, "^classifier: .*ends in a softmax"),
    "judge's softmax": (lambda _: {"judge": kind("softmax")}, "^judge: .*ends in a softmax"),
    "a twin's softmax": (
        lambda _: {"canary": {"planted": kind("softmax"), "clean": kind("right"), "attribute": "hat"}, **ORACLE},
        "^canary.planted: .*ends in a softmax",
    ),
    "dropout": (lambda _: {"classifier": kind("dropout")}, "^classifier: .*queried again"),
    "no_grad under a method": (
        lambda _: {"classifier": kind("detached"), "prior": {"path": "portraits:prior"}},
        "^classifier: .*no gradient",
    ),
    "labels by number": (lambda folder: {"data": data(folder, label_column="number")}, "^data: label_column: 'number' holds '0'"),
    "labels said wrong": (lambda folder: {"data": data(folder, labels={"red": "rde"})}, "^data: labels: red: rde is no class"),
    "no image to try": (
        lambda folder: {"data": data(folder, min_side=99)},
        "^data: none of the 48 images in .* can be used .48 too_small.*16 x 16",
    ),
}


@pytest.mark.parametrize("case", AUDITS)
def test_an_audit_of_it_is_refused_in_one_line_that_names_the_setting(folder: Path, case: str) -> None:
    change, words = AUDITS[case]
    with pytest.raises(ConfigError, match=words) as error:
        check(config_of(folder, **change(folder)))
    assert "\n" not in str(error.value)


def audited(run: Run) -> Iterator[str]:
    """The run's first and last events, and what stands between them here: images and predictions. Its warnings."""
    start_run(run)
    for shard in ingest(run):
        predict(run, shard)
    finish_run(run)
    for row in query(run.root, "select * from warnings where run_id = $run", {"run": run.id}).to_pylist():
        assert row["about"] == "audit"
        yield row["warning"]


def test_right_classifiers_pass_in_silence(folder: Path) -> None:
    assert list(audited(check(config_of(folder)))) == []
    by_number = {"label_column": "number", "labels": dict(enumerate(COLOURS))}
    run = check(config_of(folder, data=data(folder, **by_number)))
    assert list(audited(run)) == []
    right = "select count(*) as n from images join predictions using (run_id, image_id) where run_id = $run and label = class"
    assert query(run.root, right, {"run": run.id}).to_pylist() == [{"n": N}]
    portraits = {"images": folder / "portraits/images", "table": folder / "portraits/attributes.csv", "label_column": "label"}
    for twin in ("planted", "clean", "judge"):
        run = check(config_of(folder, data=portraits, classifier={"weights": f"portraits:{twin}"}))
        assert run.warnings == () and run.understood is not None and run.understood.accuracy["classifier"].right > 15


def test_a_network_that_was_never_trained_is_warned_about(folder: Path) -> None:
    run = check(config_of(folder, classifier={"module": f"{__name__}:untrained", "classes": COLOURS}))
    assert ":untrained makes a network with other weights each time" in run.warnings[0]


@pytest.fixture(scope="module")
def warned(folder: Path) -> Run:
    """An audit of a classifier whose classes are in the wrong order."""
    run = check(config_of(folder, classifier=kind("right", "blue", "red", "green")))
    assert list(audited(run)) == list(run.warnings)
    return run


def test_a_warning_is_on_the_first_page_in_the_explorer_and_in_the_exit_summary(warned: Run) -> None:
    from starlette.testclient import TestClient

    from flows.commands.audit import caveats
    from flows.demo import findings
    from warehouse.explorer.app import explorer

    (warning,) = warned.warnings
    assert "no better than chance, but about 48" in warning
    page = report_html(warned.root, warned.id)
    assert "<strong>Warning.</strong> classifier: right about 0 of 48" in page.partition("<h1>")[0]
    with TestClient(explorer(warned.root, ("testserver",))) as client:
        assert "classifier: right about 0 of 48" in client.get(f"/runs/{warned.id}").text
        assert ">1 warning<" in client.get("/").text
    found = findings(warned.root, warned.id)
    assert found["warnings"] == [warning] and caveats(found)[0] == warning
    assert set(FOUND) >= {"warnings", "absent"}


@pytest.mark.parametrize(
    ("name", "answers", "classes", "words"),
    [
        ("says_logits", "logits", ("blue", "red", "green"), r"right about 0 of 48.*`classes: \[red, green, blue\]`"),
        ("says_sigmoids", "logits", COLOURS, "differ by 1 at most"),
        ("says_logits", "logits", COLOURS, None),
    ],
)
def test_a_black_box_is_warned_about_when_its_answers_are_there(
    folder: Path, name: str, answers: str, classes: tuple[str, ...], words: str | None
) -> None:
    box = {"access": "callable", "module": f"{__name__}:{name}", "answers": answers, "classes": classes}
    run = check(config_of(folder, classifier=box))
    assert run.warnings == () and run.understood is not None and run.understood.accuracy == {}
    found = list(audited(run))
    assert (len(found) == 0) if words is None else (len(found) == 1)
    if words is not None:
        assert re.search(words, found[0])


def test_the_sample_is_the_same_each_time_and_has_as_many_of_each_label_as_there_are(folder: Path) -> None:
    known = config_of(folder).data
    first, labels = labelled_sample(known, 10)
    again, _ = labelled_sample(known, 10)
    assert first.ids == again.ids and sorted(labels.count(name) for name in COLOURS) == [3, 3, 4]
    some, labels = labelled_sample(known.model_copy(update={"label_column": "few"}), 10)
    assert labels == ["red"] and len(some.ids) == 1  # images without a label tell nothing
    none, labels = labelled_sample(known.model_copy(update={"label_column": None}), 10)
    assert labels == [None] * 10 and len(none.ids) == 10


# cfx check


def written(folder: Path, **more: Any) -> str:
    import yaml

    settings = json.loads(config_of(folder, **more).model_dump_json(exclude_unset=True))
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def test_check_prints_what_was_understood_and_writes_nothing(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    path = written(folder, warehouse=elsewhere, data=data(folder, label_column="number", labels=dict(enumerate(COLOURS))))
    ended = CliRunner().invoke(app, ["check", path, "--json"])
    assert ended.exit_code == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["images"] == N and found["per_class"] == {"blue": 16, "green": 16, "red": 16} and found["unlabelled"] == 0
    assert found["labels"] == {"0": "red", "1": "green", "2": "blue"} and found["warnings"] == []
    assert found["accuracy"] == {"classifier": {"right": N, "n": N}} and found["kept"] is None
    assert found["shown"]["input_size"] == "16 x 16, the images' own (by the default)"
    assert {one["layer"] for one in found["layers"] if not one["there"]} == {"attributes", "counterfactuals", "judge", "masks"}
    for line in ("images: 48: 16 blue, 16 green, 16 red", "labels: 0 is red", "right about 48 of 48", "`judge: auto` adds"):
        assert line in ended.stdout
    assert not elsewhere.exists()


def test_check_shows_warnings_and_is_refused_as_an_audit_is(folder: Path) -> None:
    ended = CliRunner().invoke(app, ["check", written(folder, classifier=kind("right", "blue", "red", "green"))])
    assert ended.exit_code == 0 and "classifier: right about 0 of 48" in " ".join(ended.stderr.split())
    ended = CliRunner().invoke(app, ["check", written(folder, classifier=kind("softmax"))])
    assert ended.exit_code == 2 and "ends in a softmax" in ended.stderr and "Traceback" not in ended.stderr


# Hubs


@pytest.mark.parametrize(
    ("module", "kwargs", "side", "mean"),
    [
        ("torchvision:squeezenet1_1", {}, 224, 0.485),
        ("torchvision:inception_v3", {}, 299, 0.485),
        ("torchvision:squeezenet1_1", {"num_classes": 3}, None, 0.485),
        ("timm:test_resnet.r160_in1k", {}, 160, 0.5),
        ("timm:test_resnet.r160_in1k", {"num_classes": 3}, None, 0.5),
        ("timm:test_vit.r160_in1k", {"img_size": 96}, 96, 0.5),
    ],
)
def test_a_network_with_a_hubs_own_head_sees_what_its_hub_says(
    module: str, kwargs: dict[str, object], side: int | None, mean: float
) -> None:
    classes = {"classes": COLOURS} if "num_classes" in kwargs else {}
    network = load_classifier(ClassifierConfig(module=module, kwargs=kwargs, **classes)).network
    assert network.input_size == side and network.origins["mean"] == module.partition(":")[0]
    assert float((0.5 - network.offset * 0.5 / network.gain).flatten()[0]) == pytest.approx(mean)


def test_published_inception_gets_the_transform_that_its_weights_were_trained_behind() -> None:
    network = load_classifier(ClassifierConfig(module="torchvision:inception_v3")).network
    assert network.module.transform_input
    own = {"num_classes": 3, "transform_input": True}
    config = ClassifierConfig(module="torchvision:inception_v3", kwargs=own, classes=COLOURS, input_size=299)
    assert load_classifier(config).network.module.transform_input


def test_a_classifier_that_says_the_same_of_all_images_is_warned_of() -> None:
    always = behind(Ends(lambda y: y + torch.tensor([0.0, 100.0, 0.0])))
    (warning,) = one_class_warnings(always, images()[0])
    assert "all 48 images tried are predicted as 'green'" in warning and "`std`" in warning
    assert one_class_warnings(behind(Colour()), images()[0]) == ()
    assert one_class_warnings(always, images(4)[0]) == ()  # of so few it may be chance
