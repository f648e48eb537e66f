"""Checkpoints as people have them: what is loaded, what is said about it, and what is refused with which words."""

from __future__ import annotations

import argparse
import copy
import io
import pickle
import warnings
import zipfile
from collections import namedtuple
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from cfx.attributes.oracle import OracleConfig, load_oracle
from cfx.checkpoint import load_weights, read_state_dict
from cfx.classifiers import ClassifierConfig, TorchClassifier, load_classifier
from cfx.errors import UserError
from cfx.networks.convnet import ConvNet
from cfx.networks.hit import HiT, HiTShape
from cfx.portraits import write_portraits
from cfx.weights_file import kind_of
from tasks.check import check
from tasks.config import AuditConfig
from tasks.networks import fingerprint

YES_NO = ("no", "yes")
X = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Net(nn.Module):
    """Small, with two blocks that have the same names inside, and buffers."""

    def __init__(self, outputs: int = 2, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, outputs)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class Around(nn.Module):
    """A user's wrapper: all names begin with `backbone.`."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Net()

    def forward(self, x: Tensor) -> Any:
        return self.backbone(x)


class Compiled(nn.Module):
    """Only its body was compiled and given to DataParallel."""

    def __init__(self) -> None:
        super().__init__()
        net = Net()
        self.stem, self.body, self.head = net.stem, nn.DataParallel(net.body), net.head


def net(seed: int = 0, **kwargs: int) -> Net:
    torch.manual_seed(seed)
    made = Net(**kwargs)
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = torch.randn(4) * 0.1
    return made.eval()


def state(seed: int = 0, prefix: str = "", **kwargs: int) -> dict[str, Any]:
    return {prefix + name: value for name, value in net(seed, **kwargs).state_dict().items()}


def config(path: Path, **settings: Any) -> ClassifierConfig:
    return ClassifierConfig(**{"weights": path, "module": f"{__name__}:Net", "classes": YES_NO, "input_size": 16} | settings)


def is_net(classifier: TorchClassifier, seed: int) -> bool:
    return torch.allclose(classifier(X), net(seed)(X), atol=1e-6)


def optimizer(seed: int = 0) -> dict[str, Any]:
    made = net(seed)
    adam = torch.optim.Adam(made.parameters())
    made(X).sum().backward()
    adam.step()
    return adam.state_dict()


def quantised(weight: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in torch, but in people's files
        return torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)


LIGHTNING = {
    "epoch": 3,
    "global_step": 100,
    "pytorch-lightning_version": "2.4.0",
    "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": {"best_model_score": torch.tensor(0.1)}},
    "hyper_parameters": {"lr": 1e-3},
    "loops": {"fit_loop": {"state_dict": {}}},
}


def wrapped(name: str) -> object:
    return {name: state(), "epoch": 3}


def prefixed(prefix: str) -> object:
    return {"state_dict": state(prefix=prefix)}


LAYOUTS: dict[str, Callable[[], object]] = {
    "bare": state,
    **{name: partial(wrapped, name) for name in ("net", "network", "params", "model_state", "weights")},
    "params_ema alone": lambda: {"params_ema": state()},
    "one level deeper": lambda: {"checkpoint": {"generator": state()}, "epoch": 1},
    "in a list": lambda: {"models": [state()]},
    **{
        prefix: partial(prefixed, prefix)
        for prefix in ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "my_own_name.")
    },
    "module._orig_mod.": lambda: state(prefix="module._orig_mod."),
    "_orig_mod.module.": lambda: state(prefix="_orig_mod.module."),
    "model._orig_mod.net.": lambda: state(prefix="model._orig_mod.net."),
    "module inside": lambda: {name.replace("body.", "body.module."): value for name, value in state().items()},
    "_orig_mod inside": lambda: {name.replace("body.", "body._orig_mod."): value for name, value in state().items()},
    "AveragedModel": lambda: AveragedModel(net()).state_dict(),
    "DataParallel": lambda: nn.DataParallel(net()).state_dict(),
    "parts": lambda: {
        part: {n.partition(".")[2]: v for n, v in state().items() if n.startswith(part)} for part in ("stem", "body", "head")
    },
    "DeepSpeed": lambda: {"module": state(), "optimizer": None, "ds_version": "0.14"},
    "a score": lambda: {"state_dict": state(prefix="module."), "best_acc1": torch.tensor(71.3), "optimizer": optimizer()},
    "rng": lambda: {"model": state(), "rng_state": torch.get_rng_state(), "scheduler": {"last_epoch": 3}},
    "Lightning": lambda: LIGHTNING | {"state_dict": state(prefix="model."), "optimizer_states": [optimizer()]},
    "Lightning compiled": lambda: LIGHTNING | {"state_dict": state(prefix="model._orig_mod.")},
    "the same twice": lambda: {"model": state(), "best": state(prefix="module.")},
    "before num_batches_tracked": lambda: {n: v for n, v in state().items() if not n.endswith("num_batches_tracked")},
    "double": lambda: {name: value.double() if value.is_floating_point() else value for name, value in state().items()},
    "parameters": lambda: dict(net().named_parameters()) | dict(net().named_buffers()),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_found_wherever_they_are(tmp_path: Path, layout: str) -> None:
    torch.save(LAYOUTS[layout](), tmp_path / "weights.pt")
    classifier = load_classifier(config(tmp_path / "weights.pt"))
    assert is_net(classifier, 0)
    assert classifier.network.notes == ()


@pytest.mark.parametrize("prefix", ["model.", "_orig_mod.", "module.", "network.model."])
def test_prefixes_in_a_safetensors_file(tmp_path: Path, prefix: str) -> None:
    save_file(state(prefix=prefix), tmp_path / "weights.safetensors")
    assert is_net(load_classifier(config(tmp_path / "weights.safetensors")), 0)


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.backbone.", "model.backbone."])
def test_a_network_that_wraps_another_takes_the_weights_of_either(tmp_path: Path, prefix: str) -> None:
    torch.save(state(prefix=prefix), tmp_path / "weights.pt")
    assert is_net(load_classifier(config(tmp_path / "weights.pt", module=f"{__name__}:Around")), 0)


def test_a_network_that_is_compiled_in_part_takes_plain_weights_and_its_own(tmp_path: Path) -> None:
    own = Compiled()
    for weights in (state(), {name.replace("body.", "body.module."): value for name, value in state().items()}):
        torch.save(weights, tmp_path / "weights.pt")
        assert load_weights(own, tmp_path / "weights.pt", "own") == ()
        assert torch.equal(own.state_dict()["body.module.0.weight"], state()["body.0.weight"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_weights_are_loaded_as_they_were(tmp_path: Path, dtype: torch.dtype) -> None:
    half = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state().items()}
    torch.save({"net": half}, tmp_path / "weights.pt")
    module = load_classifier(config(tmp_path / "weights.pt")).network.module
    assert all(torch.equal(value, half[name].to(value.dtype)) for name, value in module.state_dict().items())


# Weights and their running average: the weights are used, and it is said.
PAIRS = {
    "model, model_ema": ({"model": state(0), "model_ema": state(1)}, "model", "model_ema"),
    "ema first": ({"ema": {"module": state(1)}, "model": {"module": state(0)}}, "model.module", "ema.module"),
    "params, params_ema": ({"params": state(0), "params_ema": state(1)}, "params", "params_ema"),
    "state_dict, state_dict_ema": ({"state_dict": state(0), "state_dict_ema": state(1)}, "state_dict", "state_dict_ema"),
    "flat": (state(0, "online_model.") | state(1, "ema_model.") | {"step": torch.tensor(7)}, "online_model", "ema_model"),
    "averaged model": ({"net": state(0), "swa": AveragedModel(net(1)).state_dict()}, "net", "swa"),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_of_weights_and_their_average_the_choice_is_said_and_can_be_made(tmp_path: Path, pair: str) -> None:
    content, raw, averaged = PAIRS[pair]
    torch.save(content, tmp_path / "weights.pt")
    classifier = load_classifier(config(tmp_path / "weights.pt"))
    (note,) = classifier.network.notes
    assert is_net(classifier, 0)
    for part in (repr(raw), repr(averaged), "different weights", f"{raw!r} is used", "`key`"):
        assert part in note
    for key, seed in ((raw, 0), (averaged, 1)):
        chosen = load_classifier(config(tmp_path / "weights.pt", key=key))
        assert is_net(chosen, seed) and chosen.network.notes == ()


REFUSED: dict[str, tuple[object, str]] = {
    "two that fit": (
        {"student": state(0), "teacher": state(1)},
        "under 'student', 'teacher', which differ; choose one with `key`",
    ),
    "two averages": ({"ema": state(0), "ema2": state(2), "model_ema": state(1)}, "'ema', 'ema2', 'model_ema', which differ"),
    "three": ({"last": state(0), "best": state(1), "ema": state(2)}, "'last', 'best', 'ema', which differ; choose"),
    "a head behind": (
        state(0, "encoder.") | {"head.weight": torch.ones(3, 2), "head.bias": torch.ones(3)},
        """'encoder' fits, but "head.weight", "head.bias" would be left out; if that is right set `key: encoder`""",
    ),
    "normalisation before": (state(0, "model.") | {"mean": torch.ones(1, 3, 1, 1)}, """'model' fits, but "mean" would be"""),
    "other outputs": (state(0, outputs=5), "gives 5 outputs, the network's 2: set that number in `kwargs`, and `classes`"),
    "other outputs, wrapped": ({"net": state(0, "module.", outputs=5)}, "gives 5 outputs, the network's 2"),
    "other channels": (state(0, channels=1), "first layer was made for 1 channels, the network's for 3"),
    "a backbone": ({n: v for n, v in state().items() if not n.startswith("head")}, "a backbone's weights, without a head"),
    "another network": (ConvNet(2, (4, 8)).state_dict(), "another architecture"),
    "nothing alike": ({"layer1.conv.kernel": torch.ones(3, 3)}, "No name is the network's"),
    "LoRA": (state() | {"head.lora_A.weight": torch.ones(2, 4)}, "merge it into its network"),
    "only an optimizer": (optimizer(), "holds no state dict: only an optimizer's state"),
    "only an optimizer, wrapped": ({"optimizer": optimizer(), "epoch": 1}, "only an optimizer's state"),
    "quantised": (
        state() | {"head.weight": quantised(state()["head.weight"])},
        "head.weight is qint8, so the weights are quantised",
    ),
    "8-bit": (state() | {"head.weight": torch.ones(2, 4, dtype=torch.int8)}, "head.weight is int8, so the weights are quantised"),
    "8-bit with scales": (
        state() | {"head.weight": torch.ones(2, 4, dtype=torch.int8), "head.SCB": torch.ones(2)},
        "head.weight is int8, so the weights are quantised",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_weights_that_do_not_fit_or_not_alone_are_refused_in_few_words(tmp_path: Path, case: str) -> None:
    content, words = REFUSED[case]
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(UserError) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch takes offence at quantised tensors
        load_classifier(config(tmp_path / "weights.pt"))
    message = str(caught.value)
    assert words in message and "weights.pt" in message
    assert len(message) < 600 and "\n" not in message


def test_a_mismatch_shows_three_names_of_each_kind_and_counts_the_others(tmp_path: Path) -> None:
    torch.save({f"other.{name}": value for name, value in ConvNet(2, (4, 8)).state_dict().items()}, tmp_path / "weights.pt")
    with pytest.raises(UserError) as caught:
        load_classifier(config(tmp_path / "weights.pt"))
    assert '12 keys are missing ("stem.0.weight", "stem.0.bias", "stem.1.weight" …)' in str(caught.value)


def test_what_was_chosen_is_a_warning_of_the_audit(tmp_path: Path) -> None:
    write_portraits(tmp_path / "data", 4, seed=1)
    torch.save({"model": state(0), "model_ema": state(1)}, tmp_path / "weights.pt")
    data = {"images": tmp_path / "data/images", "table": tmp_path / "data/attributes.csv", "size": 16}
    classifier = config(tmp_path / "weights.pt").model_dump(exclude_none=True)
    warned = {
        key: check(
            AuditConfig.model_validate(
                {"name": "t", "warehouse": tmp_path, "data": data, "classifier": classifier | how, "device": "cpu"}
            )
        )
        for key, how in {None: {}, "model": {"key": "model"}, "model_ema": {"key": "model_ema"}}.items()
    }
    said = {key: [warning for warning in run.warnings if "hold different weights" in warning] for key, run in warned.items()}
    assert said["model"] == said["model_ema"] == [] and len(said[None]) == 1
    assert said[None][0].startswith("classifier: ") and "'model' is used" in said[None][0]
    prints = {key: run.fingerprints["classifier"] for key, run in warned.items()}
    assert prints[None] == prints["model"] != prints["model_ema"]


def test_part_of_a_file_is_loaded_where_that_is_the_users_word(tmp_path: Path) -> None:
    torch.save(state(0, "encoder.") | {"head.weight": torch.ones(3, 2)}, tmp_path / "weights.pt")
    assert is_net(load_classifier(config(tmp_path / "weights.pt", key="encoder")), 0)
    with pytest.raises(UserError, match=r'no weights under `key: encodre`; it has "encoder", "head"'):
        load_classifier(config(tmp_path / "weights.pt", key="encodre"))


def test_other_networks_beside_are_named(tmp_path: Path) -> None:
    torch.save({"generator": state(0), "discriminator": ConvNet(1, (4, 8)).state_dict()}, tmp_path / "weights.pt")
    (note,) = load_classifier(config(tmp_path / "weights.pt")).network.notes
    assert """'generator' is used, weights under "discriminator" are not""" in note
    assert load_classifier(config(tmp_path / "weights.pt", key="generator")).network.notes == ()


def test_an_oracle_and_other_networks_go_through_the_same_door(tmp_path: Path) -> None:
    torch.save({"params": state(0), "params_ema": state(1)}, tmp_path / "weights.pt")
    settings: dict[str, Any] = {"weights": tmp_path / "weights.pt", "module": f"{__name__}:Net", "attributes": ("a", "b")}
    oracle = load_oracle(OracleConfig(**settings, key="params_ema"))
    assert torch.allclose(oracle.logits(X), net(1)(X), atol=1e-6)
    assert len(load_oracle(OracleConfig(**settings)).network.notes) == 1


def saved(content: object, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


def zipped(names: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return file.getvalue()


def as_safetensors(folder: Path) -> bytes:
    save_file(state(), folder / "made")
    return (folder / "made").read_bytes()


WHOLE, LEGACY = saved(state()), saved(state(), _use_new_zipfile_serialization=False)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 46830571\n"
BROKEN: dict[str, tuple[str, bytes, str]] = {
    "empty": ("w.pt", b"", "w.pt is empty (0 bytes)"),
    "empty safetensors": ("w.safetensors", b"", "w.safetensors is empty (0 bytes)"),
    "cut short": ("w.pt", WHOLE[: len(WHOLE) // 2], "w.pt is truncated or broken"),
    "cut by a byte": ("w.pt", WHOLE[:-30], "w.pt is truncated or broken"),
    "only its beginning": ("w.pth", WHOLE[:40], "w.pth is truncated or broken"),
    "cut short, before 1.6": ("w.pt", LEGACY[: len(LEGACY) // 2], "w.pt is truncated or broken"),
    "cut by a byte, before 1.6": ("w.pt", LEGACY[:-1], "w.pt is truncated or broken"),
    "zeros inside": ("w.pt", WHOLE.replace(b"\x80\x02", b"\0\0"), "w.pt is truncated or broken"),
    "git lfs": ("w.pt", LFS, "w.pt is a Git LFS pointer, not the file that it stands for; fetch that with `git lfs pull`"),
    "git lfs safetensors": ("w.safetensors", LFS, "git lfs pull"),
    "git lfs pkl": ("w.pkl", LFS, "git lfs pull"),
    "web page": ("w.pt", b"<!DOCTYPE html><html><title>Google Drive</title>", "w.pt is a web page"),
    "web page, indented": ("w.safetensors", b"\xef\xbb\xbf\n  <HTML lang=en>", "is a web page"),
    "denied": ("w.pth", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
    "json": ("w.pt", b'{"error": "Repository not found"}', 'is JSON text (\'{"error": "Repository'),
    "gzip": ("w.pt", b"\x1f\x8b\x08\0" + bytes(30), "compressed by gzip; unpack it"),
    "keras": ("w.h5", b"\x89HDF\r\n\x1a\n" + bytes(30), "is an HDF5 file, as Keras writes"),
    "onnx": ("w.onnx", b"\x08\x08\x12\x07pytorch", "access: onnx"),
    "zip of a file": ("w.zip", zipped({"resnet/weights.pth": b"x"}), "is a zip archive, but not one of torch.save"),
    "npz": ("w.npz", zipped({"a.npy": b"x"}), "is a zip archive"),
    "text": ("w.pt", b"see the other folder", "is not a file of weights: it begins with b'see the othe'"),
    "safetensors cut": ("w.safetensors", b"CUT", "w.safetensors is not a whole safetensors file: truncated or broken"),
    "safetensors named pt, cut": ("w.pt", b"CUT", "w.pt is not a whole safetensors file"),
    "pickled tensors": ("w.pt", pickle.dumps(state()), "is not a pickled dict of NumPy arrays (it needs"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("allow_pickle", [False, True], ids=["strict", "pickle"])
def test_files_that_hold_no_weights_are_called_what_they_are(tmp_path: Path, case: str, allow_pickle: bool) -> None:
    name, content, words = BROKEN[case]
    if case == "pickled tensors" and allow_pickle:
        return
    path = tmp_path / name
    path.write_bytes(as_safetensors(tmp_path)[:-9] if content == b"CUT" else content)
    with pytest.raises(UserError) as caught:
        load_classifier(config(path, allow_pickle=allow_pickle))
    assert words in str(caught.value)
    assert "allow_pickle" not in str(caught.value) or case == "pickled tensors"


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").touch()
    with pytest.raises(
        UserError,
        match=r"model is a folder, and `weights` is a file, or a folder as .*config.json.; in it: model\.safetensors",
    ):
        load_classifier(config(tmp_path / "model"))


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors", "w.bin", "w.ckpt", "w.pkl", "weights"])
@pytest.mark.parametrize("kind", ["zip", "before 1.6", "safetensors", "arrays"])
def test_files_are_read_by_what_they_are_whatever_they_are_called(tmp_path: Path, name: str, kind: str) -> None:
    arrays = pickle.dumps({key: value.numpy() for key, value in state().items()})
    contents = {"zip": WHOLE, "before 1.6": LEGACY, "safetensors": as_safetensors(tmp_path), "arrays": arrays}
    (tmp_path / name).write_bytes(contents[kind])
    assert is_net(load_classifier(config(tmp_path / name)), 0)


def test_a_safetensors_header_of_any_length_is_one(tmp_path: Path) -> None:
    """The first byte is the length's lowest: 0x80 is also how pickles begin, "PK" how zips do."""
    for length in (0x80, 0x4B50, 0x1F8B):
        header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
        (tmp_path / "w.safetensors").write_bytes(length.to_bytes(8, "little") + header + bytes(4))
        assert kind_of(tmp_path / "w.safetensors") == "safetensors"
        assert read_state_dict(tmp_path / "w.safetensors")["a"].shape == (1,)


def test_what_needs_code_is_named_and_read_only_by_the_users_word(tmp_path: Path) -> None:
    path = tmp_path / "w.ckpt"
    for extra, named in ((argparse.Namespace(lr=1), "argparse.Namespace"), (Path("x"), "pathlib"), (net(), "Net")):
        torch.save({"state_dict": state(), "hyper_parameters": extra if named != "Net" else {}, "args": extra}, path)
        with pytest.raises(UserError, match=rf"holds more than weights: a \S*{named}.*`allow_pickle: true`"):
            load_classifier(config(path))
    torch.save({"state_dict": state(), "args": argparse.Namespace(lr=1)}, path)
    assert is_net(load_classifier(config(path, allow_pickle=True)), 0)
    path.write_bytes(pickle.dumps({"net": state()}))
    assert is_net(load_classifier(config(path, allow_pickle=True)), 0)


def test_what_only_its_makers_code_can_unpickle_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = type("Gone", (), {"__module__": "argparse"})
    monkeypatch.setattr(argparse, "Gone", gone, raising=False)
    torch.save({"state_dict": state(), "args": gone()}, tmp_path / "w.pt")
    monkeypatch.undo()
    with pytest.raises(UserError, match="can only be unpickled where the code is that it was saved with"):
        load_classifier(config(tmp_path / "w.pt", allow_pickle=True))


# HiT: the released code writes what its last layer never uses.
TINY = HiTShape(size=16, patch=4, width=8, heads=2, blocks=(1, 2))
DEAD = {"ln_2.weight": (8,), "ln_2.bias": (8,), "mlp.0.weight": (32, 8), "mlp.0.bias": (32,), "mlp.3.weight": (8, 32)} | {
    "mlp.3.bias": (8,)
}


def released(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    network = HiT(2, TINY)
    network.head.weight.data.normal_()
    last = "encoder.layers.block_1.encoder_layer_1"
    return network.state_dict() | {f"{last}.{name}": torch.randn(shape) for name, shape in DEAD.items()}


def hit_config(path: Path, **settings: Any) -> ClassifierConfig:
    kwargs = {"outputs": 2, "shape": TINY.model_dump()}
    return ClassifierConfig(weights=path, module="cfx.networks.hit:HiT", kwargs=kwargs, classes=YES_NO, input_size=16, **settings)


def test_a_released_hit_loads_without_what_its_last_layer_never_uses(tmp_path: Path) -> None:
    args = argparse.Namespace(block_version="hit")
    torch.save({"model": released(0), "model_ema": released(1), "args": args}, tmp_path / "hit.pth")
    classifier = load_classifier(hit_config(tmp_path / "hit.pth", allow_pickle=True))
    assert len(classifier.network.notes) == 1
    ours = HiT(2, TINY)
    ours.load_state_dict({name: value for name, value in released(0).items() if name in ours.state_dict()})
    assert torch.allclose(classifier(X), ours.eval()(X), atol=1e-6)
    averaged = load_classifier(hit_config(tmp_path / "hit.pth", allow_pickle=True, key="model_ema"))
    assert not torch.allclose(averaged(X), classifier(X))


def test_of_a_released_hit_nothing_else_is_dropped(tmp_path: Path) -> None:
    torch.save(released(0) | {"encoder.layers.block_1.encoder_layer_1.mlp.5.weight": torch.ones(2)}, tmp_path / "hit.pth")
    with pytest.raises(UserError, match=r"mlp\.5\.weight"):
        load_classifier(hit_config(tmp_path / "hit.pth"))
    cut = {name: value for name, value in released(0).items() if "encoder_layer_0.mlp.0" not in name}
    torch.save(cut, tmp_path / "hit.pth")
    with pytest.raises(UserError, match="missing"):
        load_classifier(hit_config(tmp_path / "hit.pth"))


# Programs: TorchScript and torch.export bring their own code.
def script(network: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, X).save(str(path))
    return path


def export(network: nn.Module, path: Path, batch: object = None) -> Path:
    dims = {0: torch.export.Dim("batch", min=1, max=1024)} if batch is None else None
    exported = torch.export.export(network, (X[:2],), dynamic_shapes=({**dims},) if dims else None)
    torch.export.save(exported, path)
    return path


@pytest.mark.parametrize("write", [script, export])
def test_a_program_is_a_network_of_its_own_by_the_users_word(tmp_path: Path, write: Callable[[nn.Module, Path], Path]) -> None:
    path = write(net(), tmp_path / "program.pt2")
    with pytest.raises(UserError, match="is a program .*`allow_pickle: true`"):
        load_classifier(ClassifierConfig(weights=path, classes=YES_NO))
    classifier = load_classifier(ClassifierConfig(weights=path, classes=YES_NO, allow_pickle=True, input_size=16))
    assert is_net(classifier, 0)
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(x)[:, 1].sum(), x)
    assert gradient.abs().sum() > 0
    assert torch.equal(copy.deepcopy(classifier)(X), classifier(X))


@pytest.mark.parametrize("write", [script, export])
def test_a_programs_weights_fill_a_network_too(tmp_path: Path, write: Callable[[nn.Module, Path], Path]) -> None:
    assert is_net(load_classifier(config(write(net(), tmp_path / "program.pt"), allow_pickle=True)), 0)


def test_equal_weights_in_another_program_are_another_network(tmp_path: Path) -> None:
    class Doubled(Net):
        def forward(self, x: Tensor) -> Any:
            return 2 * super().forward(x)

    doubled = Doubled().eval()
    doubled.load_state_dict(net().state_dict())
    prints = [
        fingerprint(load_classifier(ClassifierConfig(weights=path, classes=YES_NO, allow_pickle=True, input_size=16)))
        for path in (script(net(), tmp_path / "a.pt"), script(doubled, tmp_path / "b.pt"))
    ]
    assert prints[0] != prints[1]


def test_an_export_that_takes_one_batch_only_is_refused_before_any_work(tmp_path: Path) -> None:
    exported = torch.export.export(net(), (X[:1],))
    torch.export.save(exported, tmp_path / "one.pt2")
    with pytest.raises(UserError, match="fails on 2 images of 16 x 16"):
        load_classifier(ClassifierConfig(weights=tmp_path / "one.pt2", classes=YES_NO, allow_pickle=True, input_size=16))


# Grey networks.
class Grey(nn.Module):
    """Logits are the mean of what it sees and its negative; the convolution passes its only channel on."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 1, 1, bias=False)
        nn.init.ones_(self.stem.weight)

    def forward(self, x: Tensor) -> Any:
        seen = self.stem(x).mean((1, 2, 3))
        return torch.stack([seen, -seen], dim=1)


class Flat(nn.Module):
    """A network without a convolution, as for MNIST."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(28 * 28, 2)

    def forward(self, x: Tensor) -> Any:
        return self.layer(x.flatten(1))


def grey(**settings: Any) -> TorchClassifier:
    return load_classifier(ClassifierConfig(**{"module": f"{__name__}:Grey", "classes": YES_NO} | settings))


COLOUR = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("settings", "seen"),
    [
        ({}, 0.299 - 0.114),  # luma on [-1, 1]
        ({"mean": 0.5, "std": 0.25}, 2 * (0.299 - 0.114)),
        ({"mean": [0.1307], "std": [0.3081]}, ((0.299 - 0.114 + 1) / 2 - 0.1307) / 0.3081),  # MNIST's
        ({"channels": 1}, 0.299 - 0.114),
    ],
    ids=["default", "numbers", "lists of one", "by the setting"],
)
def test_a_network_of_one_channel_sees_luma(settings: dict[str, Any], seen: float) -> None:
    torch.testing.assert_close(grey(**settings)(COLOUR)[:, 0], torch.full((2,), seen))


def test_luma_is_pillows_and_leaves_grey_as_it_is() -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    pixels[:8] = pixels[:8, :, :1]
    shown: list[Tensor] = []
    classifier = grey()
    classifier.network.module.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    classifier(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1)
    ours = ((shown[0][0, 0] + 1) * 127.5).numpy()
    pillow = np.asarray(Image.fromarray(pixels).convert("L"), dtype=float)
    assert np.abs(ours - pillow).max() < 0.51
    assert np.abs(ours[:8] - pixels[:8, :, 0]).max() < 1e-3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mean": (0.5, 0.5, 0.5)}, "mean has 3 numbers, but .*Grey takes 1 channel .grey.: give 1"),
        ({"std": (0.5, 0.5, 0.5)}, "std has 3 numbers"),
        ({"kwargs": {"channels": 3}, "mean": 0.5}, "mean has 1 numbers, but .* takes 3 channels .RGB.: give 3"),
        ({"channels": 3}, "first convolution takes 1 channels, and it is shown 3: set `channels: 1`"),
        ({"kwargs": {"channels": 3}, "channels": 1}, "takes 3 channels, and it is shown 1: set `channels: 3`"),
        ({"kwargs": {"channels": 4}}, "takes 4 channels, and it is shown 3: only RGB and grey images can be shown"),
        ({"module": f"{__name__}:Flat", "input_size": 28}, "set `input_size`, and `channels: 1` if it takes grey images"),
    ],
    ids=["mean", "std", "one mean for RGB", "not 3", "not 1", "RGBA", "no convolution"],
)
def test_channels_that_do_not_fit_are_refused_with_what_to_set(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        grey(**settings)


def test_a_grey_network_without_a_convolution_is_told_so_by_the_user() -> None:
    classifier = grey(module=f"{__name__}:Flat", channels=1, input_size=28)
    assert classifier(X).shape == (3, 2)
    x = X.clone().requires_grad_()
    assert torch.autograd.grad(classifier(x)[:, 0].sum(), x)[0].abs().amin((0, 2, 3)).min() >= 0


def test_a_hubs_grey_network_is_normalised_by_the_luma_of_its_numbers() -> None:
    kwargs = {"in_chans": 1, "num_classes": 2}
    classifier = load_classifier(ClassifierConfig(module="timm:test_resnet.r160_in1k", kwargs=kwargs, classes=YES_NO))
    published: Any = classifier.network.module.pretrained_cfg
    mean, std = (torch.tensor(published[key]) for key in ("mean", "std"))
    luma = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(classifier.network.gain.flatten(), 0.5 / (std * luma).sum()[None])
    torch.testing.assert_close(classifier.network.offset.flatten(), ((0.5 - mean) * luma).sum()[None] / (std * luma).sum())


def test_a_scripted_grey_network_is_seen_by_its_first_weights(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net(channels=1), X[:, :1]).save(str(tmp_path / "grey.pt"))
    classifier = load_classifier(ClassifierConfig(weights=tmp_path / "grey.pt", classes=YES_NO, allow_pickle=True))
    luma = (X * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(classifier(X), net(channels=1)(luma))


# What networks answer.
Named = namedtuple("Named", ["logits", "aux_logits"])


class Answers(nn.Module):
    """Answers logits, (red, green), in some wrapping."""

    def __init__(self, wrapping: str) -> None:
        super().__init__()
        self.wrapping = wrapping

    def forward(self, x: Tensor) -> object:
        logits, features = x.mean((2, 3))[:, :2], x.flatten(1)[:, :7]
        return {
            "named tuple": Named(logits, -logits),
            "dict of logits": {"loss": None, "logits": logits, "embedding": features},
            "first of two alike": (logits, logits.softmax(1)),
            "with feature maps": (logits, x),
            "feature maps first": [x, logits],
            "one in a tuple": (logits,),
            "dict of one": {"out": logits},
            "trailing places": logits[..., None, None],
            "with a 1-D part": (logits, logits.sum(1)),
            "two widths": (logits, features),
            "two widths in a dict": {"head": logits, "embedding": features},
            "text": "cat",
            "none": None,
            "maps": x,
            "classes": logits.argmax(1),
            "ints": logits.round().long(),
            "empty": (),
        }[self.wrapping]


TAKEN = [
    "named tuple",
    "dict of logits",
    "first of two alike",
    "with feature maps",
    "feature maps first",
    "one in a tuple",
    "dict of one",
    "trailing places",
    "with a 1-D part",
]


def answering(wrapping: str) -> TorchClassifier:
    return load_classifier(ClassifierConfig(module=f"{__name__}:Answers", kwargs={"wrapping": wrapping}, classes=YES_NO))


@pytest.mark.parametrize("wrapping", TAKEN)
def test_logits_are_taken_out_of_what_a_network_answers(wrapping: str) -> None:
    for x in (X, X[:1]):
        torch.testing.assert_close(answering(wrapping)(x), x.mean((2, 3))[:, :2])


@pytest.mark.parametrize(
    ("wrapping", "words"),
    [
        ("two widths", r"answered tuple of \(2, 2\), \(2, 7\) to 2 images; one tensor of logits"),
        ("two widths in a dict", r"answered dict of head: \(2, 2\), embedding: \(2, 7\)"),
        ("text", "answered str"),
        ("none", "answered NoneType"),
        ("maps", r"answered \(2, 3, 224, 224\)"),
        ("classes", r"answered \(2,\) torch.int64"),
        ("ints", r"answered \(2, 2\) torch.int64"),
        ("empty", "answered tuple"),
    ],
)
def test_an_answer_that_could_mean_two_things_is_refused_by_name(wrapping: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        answering(wrapping)


class OneLogit(nn.Module):
    """The mean of red, as one logit in some shape."""

    def __init__(self, shape: str) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        logit = x[:, 0].mean((1, 2))
        return {"(B, 1)": logit[:, None], "(B,)": logit, "squeezed": logit[:, None].squeeze()}[self.shape]


@pytest.mark.parametrize("shape", ["(B, 1)", "(B,)", "squeezed"])
@pytest.mark.parametrize("head", [{}, {"head": "sigmoid"}], ids=["default", "sigmoid"])
def test_one_logit_is_the_log_odds_of_the_second_of_two_classes(shape: str, head: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"module": f"{__name__}:OneLogit", "kwargs": {"shape": shape}, "classes": YES_NO}
    classifier = load_classifier(ClassifierConfig(**settings, **head))
    for x in (X, X[:1]):
        logit = x[:, 0].mean((1, 2))
        torch.testing.assert_close(classifier(x), torch.stack([torch.zeros_like(logit), logit], dim=1))
        torch.testing.assert_close(classifier(x).softmax(1)[:, 1], logit.sigmoid())
    with pytest.raises(UserError, match="gives 1 logits for 3 classes"):
        load_classifier(ClassifierConfig(**{**settings, "classes": ("a", "b", "c")}))


def test_a_hubs_network_that_cannot_take_the_images_says_which_it_can() -> None:
    kwargs = {"num_classes": 2, "init_weights": False}
    classifier = load_classifier(ClassifierConfig(module="torchvision:inception_v3", kwargs=kwargs, classes=YES_NO))
    with pytest.raises(UserError, match="fails on 1 images of 64 x 64.*at least 75 x 75; set `input_size`"):
        classifier(torch.zeros(1, 3, 64, 64))
