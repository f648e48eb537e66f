"""Networks from outside: what is read, what is refused with which message, and what reaches the network."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cfx.checkpoint import Facts, read_facts, save_network
from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.classifiers.network import weights_path
from cfx.networks.convnet import ConvNet
from cfx.types import Classifier

CONVNET = "cfx.networks.convnet:ConvNet"
TINY: dict[str, Any] = {"outputs": 2, "widths": (4, 8), "grid": 1}
YES_NO = ("no", "yes")


class Channels(nn.Module):
    """Logits are the mean of the first `outputs` channels, times a weight: what it sees can be read off its answer."""

    def __init__(self, outputs: int = 3, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x.mean((2, 3))[:, : self.outputs]


class Corner(nn.Module):
    """The image itself, flattened: 2 x 2 pixels of 3 channels are 12 logits."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Wordy(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": x.mean((2, 3)), "features": x}


class Linear(nn.Module):
    """Takes one size only."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.head = nn.Linear(3 * side * side, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


def here(name: str) -> str:
    return f"{__name__}:{name}"


def tiny(seed: int = 0) -> ConvNet:
    torch.manual_seed(seed)
    return ConvNet(**TINY).eval()


def config_for(path: Path, **settings: object) -> ClassifierConfig:
    return ClassifierConfig(weights=path, module=CONVNET, kwargs=TINY, classes=YES_NO, **settings)


def wrapped(state: dict[str, Tensor]) -> dict[str, object]:
    parallel = {f"module.{name}": value for name, value in state.items()}
    return {
        "bare": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "model_state_dict": {"model_state_dict": parallel},
        "model": {"model": parallel, "optimizer": {"lr": 0.1}},
        "ema": {"ema": {**parallel, "n_averaged": torch.tensor(7)}},
        "parts": {
            "features": {name.removeprefix("features."): value for name, value in state.items() if name.startswith("features.")},
            "head": {name.removeprefix("head."): value for name, value in state.items() if name.startswith("head.")},
        },
    }


@pytest.mark.parametrize("layout", wrapped({}))
def test_every_way_of_wrapping_a_state_dict_gives_the_same_classifier(tmp_path, layout):
    network, x = tiny(), torch.rand(3, 3, 32, 32) * 2 - 1
    torch.save(wrapped(network.state_dict())[layout], tmp_path / "weights.pt")
    classifier = load_classifier(config_for(tmp_path / "weights.pt"))
    torch.testing.assert_close(classifier(x), network(x), rtol=0, atol=1e-6)


def test_a_loaded_classifier_keeps_the_contract(tmp_path):
    save_file(tiny().state_dict(), tmp_path / "weights.safetensors")
    classifier = load_classifier(config_for(tmp_path / "weights.safetensors"))
    assert isinstance(classifier, Classifier)
    assert classifier.classes == YES_NO and classifier.differentiable
    assert not classifier.training and not any(p.requires_grad for p in classifier.parameters())
    x = torch.zeros(2, 3, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(classifier(x)[:, 1].sum(), x)
    assert gradient.abs().sum() > 0
    with torch.autocast("cpu", torch.bfloat16):
        assert classifier(x).dtype == torch.float32


def test_missing_unexpected_and_misshapen_keys_are_each_named(tmp_path):
    state = tiny().state_dict()
    state["old.bias"] = state.pop("head.bias")
    state["head.weight"] = torch.zeros(5, 8)
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError) as error:
        load_classifier(config_for(tmp_path / "weights.safetensors"))
    message = str(error.value)
    for part in ("weights.safetensors", CONVNET, '"head.bias"', '"old.bias"', "head.weight", "[5, 8]", "[2, 8]", "`kwargs`"):
        assert part in message


def test_a_missing_file_is_reported_with_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights at .*nowhere\.pt.*cfx train"):
        load_classifier(config_for(tmp_path / "nowhere.pt"))


def test_a_bundled_network_that_does_not_exist_is_reported_with_those_that_do():
    with pytest.raises(FileNotFoundError, match="portraits:clean, portraits:judge, portraits:oracle, portraits:planted"):
        weights_path(Path("portraits:plantd"))
    assert weights_path(Path("portraits:planted")).is_file()
    assert weights_path(Path("own.pt")) == Path("own.pt")


def test_a_file_that_runs_code_is_refused_unless_allowed(tmp_path):
    ran = tmp_path / "ran"
    torch.save({"state_dict": tiny().state_dict(), "args": _Touch(ran)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="allow_pickle"):
        load_classifier(config_for(tmp_path / "weights.pt"))
    assert not ran.exists()
    load_classifier(config_for(tmp_path / "weights.pt", allow_pickle=True))
    assert ran.exists()


class _Touch:
    """Creates a file when it is unpickled, as a hostile checkpoint might."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_pickled_module_gives_its_weights_when_allowed(tmp_path):
    network = tiny()
    torch.save(network, tmp_path / "whole.pt")
    classifier = load_classifier(config_for(tmp_path / "whole.pt", allow_pickle=True))
    assert torch.equal(classifier(torch.ones(1, 3, 32, 32)), network(torch.ones(1, 3, 32, 32)))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02K\x01."])
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_broken_file_is_refused_by_name(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        load_classifier(config_for(tmp_path / name))


@pytest.mark.parametrize(("content", "message"), [({"epoch": 3}, "'epoch' is a int"), ([1.0], "is a list"), ({}, "it is empty")])
def test_a_checkpoint_without_weights_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=f"holds no state dict: .*{message}"):
        load_classifier(config_for(tmp_path / "weights.pt"))


def test_a_file_of_weights_chooses_no_code_but_cfxs_own(tmp_path):
    save_network(tmp_path / "hostile.safetensors", tiny(), {"module": "os:system", "kwargs": {"command": "false"}})
    with pytest.raises(ValueError, match="set `module`"):
        load_classifier(ClassifierConfig(weights=tmp_path / "hostile.safetensors", classes=YES_NO))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_weights_file_that_is_overwritten_is_another_network_in_the_same_process(tmp_path, suffix):
    x, path, new, networks = torch.rand(3, 3, 16, 16), tmp_path / f"weights{suffix}", tmp_path / f"new{suffix}", []
    for seed in (0, 1):
        write = save_file if suffix == ".safetensors" else torch.save
        write(tiny(seed).state_dict(), new)
        path.write_bytes(new.read_bytes())  # in place: the same name, size and inode
        networks.append(load_classifier(config_for(path)))
        torch.testing.assert_close(networks[-1](x), tiny(seed)(x))
    torch.testing.assert_close(networks[0](x), tiny(0)(x))  # what is in use does not change under its user


def test_facts_written_beside_the_weights_come_back(tmp_path):
    facts: Facts = {"module": CONVNET, "kwargs": dict(TINY), "classes": ["cat", "dog"], "input_size": 16}
    network = tiny()
    path = save_network(tmp_path / "new" / "network.safetensors", network, facts)
    assert read_facts(path) == {**facts, "kwargs": {**TINY, "widths": [4, 8]}}
    classifier = load_classifier(ClassifierConfig(weights=path))
    assert classifier.classes == ("cat", "dog")
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(classifier(x), network(x))
    large = torch.rand(2, 3, 40, 40)  # brought to the size the network was trained at
    assert torch.equal(classifier(large), network(interpolate(large, size=(16, 16), mode="bilinear", antialias=True)))
    assert load_classifier(ClassifierConfig(weights=path, classes=("katze", "hund"))).classes == ("katze", "hund")
    assert [file.name for file in path.parent.iterdir()] == ["network.safetensors"]


def test_normalisation_worked_example():
    # red -1, green 0, blue 1 are 0, .5, 1 in [0, 1]; less (.5, .25, .2), over (.5, .25, .4): -1, 1, 2
    x = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    config = ClassifierConfig(module=here("Channels"), classes=("r", "g", "b"), mean=(0.5, 0.25, 0.2), std=(0.5, 0.25, 0.4))
    torch.testing.assert_close(load_classifier(config)(x), torch.tensor([[-1.0, 1.0, 2.0]]))


def test_the_default_convention_leaves_images_exactly_as_they_are():
    names = tuple("abcdefghijkl")
    classifier = load_classifier(ClassifierConfig(module=here("Corner"), classes=names, input_size=2))
    x = torch.rand(5, 3, 2, 2) * 2 - 1
    assert torch.equal(classifier(x), x.flatten(1))


def test_resampling_worked_example():
    # halving by an antialiased triangle: along a row of 0 0 4 4, weights (3, 3, 1) / 7 and (1, 3, 3) / 7
    names = tuple("abcdefghijkl")
    classifier = load_classifier(ClassifierConfig(module=here("Corner"), classes=names, input_size=2))
    x = torch.tensor([0.0, 0.0, 0.4, 0.4]).expand(1, 3, 4, 4)
    torch.testing.assert_close(classifier(x), torch.tensor([0.4 / 7, 2.4 / 7]).repeat(6)[None])


def test_one_logit_head_is_the_sigmoid():
    classifier = load_classifier(
        ClassifierConfig(module=here("Channels"), kwargs={"outputs": 1, "weight": 9.0}, classes=YES_NO, head="sigmoid")
    )
    x = torch.linspace(-1, 1, 11).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    logits = classifier(x)
    assert torch.equal(logits[:, 0], torch.zeros(11))
    torch.testing.assert_close(logits.softmax(1)[:, 1], (9 * x[:, 0, 0, 0]).sigmoid())


def test_one_column_of_a_multi_label_network():
    config = ClassifierConfig(module=here("Channels"), classes=YES_NO, head="sigmoid", output=2)
    x = torch.tensor([0.1, 0.2, math.log(3)]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    torch.testing.assert_close(load_classifier(config)(x).softmax(1), torch.tensor([[0.25, 0.75]]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": YES_NO}, r"gives 3 logits for 2 classes \(no, yes\)"),
        ({"classes": ("a", "b", "c", "d")}, "gives 3 logits for 4 classes"),
        ({"classes": YES_NO, "head": "sigmoid"}, "gives 3 logits, head sigmoid needs one; pick it with `output`"),
        ({"classes": YES_NO, "head": "sigmoid", "output": 3}, "outputs 0 to 2; output 3 is not one of them"),
        ({"classes": ("a", "b", "c"), "head": "sigmoid", "output": 1}, "tells two classes apart"),
        ({}, "set `classes`, in the order of its outputs"),
        ({"classes": ("a", "b", "c"), "kwargs": {"weight": math.nan}}, "answered NaN or infinity"),
        ({"classes": YES_NO, "kwargs": {"outptus": 2}}, "cannot be called with kwargs .*outptus"),
        ({"classes": YES_NO, "module": here("Wordy")}, "gives 3 logits for 2 classes"),
        ({"classes": YES_NO, "module": here("Linear"), "kwargs": {"side": 8}}, "images of 224 x 224; set `input_size`"),
        ({"classes": YES_NO, "module": "collections:OrderedDict"}, "is of Python's standard library"),
    ],
)
def test_a_network_that_cannot_be_audited_is_refused_by_name(settings, message):
    config = ClassifierConfig(**{"module": here("Channels"), **settings})
    with pytest.raises(ValueError, match=message):
        load_classifier(config)


@pytest.mark.parametrize(
    ("module", "message"),
    [("no_such_package:net", "cannot import 'no_such_package'"), ("numpy:Network", "'numpy' .* has no 'Network'")],
)
def test_a_module_that_cannot_be_found_is_refused_by_name(module, message):
    with pytest.raises(ImportError, match=message):
        load_classifier(ClassifierConfig(module=module, classes=YES_NO))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no network: set `weights`"),
        ({"module": "not a path"}, "should match pattern"),
        ({"module": "a:b", "output": 1}, "set `head: sigmoid`"),
        ({"module": "a:b", "classes": ("same", "same")}, "every class needs a name of its own"),
        ({"module": "a:b", "std": (0.5, 0.0, 0.5)}, "above 0"),
        ({"module": "a:b", "wieghts": "x"}, "wieghts"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_any_work(settings, message):
    with pytest.raises(ValidationError, match=message):
        ClassifierConfig(**settings)


def test_an_answer_that_turns_nan_is_refused():
    classifier = load_classifier(ClassifierConfig(module=here("Channels"), classes=("a", "b", "c")))
    with pytest.raises(ValueError, match="Channels answered NaN"):
        classifier(torch.full((1, 3, 4, 4), math.nan))


@pytest.mark.parametrize("side", [16, 64, 256])
def test_the_convnet_takes_any_side_and_keeps_images_of_a_batch_apart(side):
    network, x = ConvNet(3), torch.rand(3, 3, side, side)
    together = network(x)
    assert together.shape == (3, 3)
    torch.testing.assert_close(together[1:2], network(x[1:2]))
