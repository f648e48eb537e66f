"""Networks that papers published, from files in their own layout: read without running code, prepared as each was trained."""

import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import densenet121, resnet50

from cfx.attributes.oracle import OracleConfig, load_oracle
from cfx.checkpoint import read_state_dict
from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.networks.face_resnet import STAGES, CelebAHQOracle, CelebAOracle, FaceResNet50
from cfx.networks.simsiam import load_simsiam
from cfx.networks.vggface2 import VGGFace2, load_vggface2

CELEBA = tuple(f"attribute_{i}" for i in range(40))
# one colour everywhere: red 1, green 0, blue -1, which are 1, .5 and 0 in [0, 1]
COLOURED = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is gone after the test: these files are large."""
    with TemporaryDirectory() as name:
        yield Path(name)


def lively(network: nn.Module) -> Any:
    """Random statistics for every normalisation, as a trained network has; eval mode."""
    torch.manual_seed(7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def image(side: int = 64) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def first_seen(network: nn.Module, first: nn.Module, x: Tensor) -> list[float]:
    """What the network's first convolution is shown, at the image's centre."""
    seen: list[Tensor] = []
    handle = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(x)
    handle.remove()
    return seen[0][0, :, seen[0].shape[2] // 2, seen[0].shape[3] // 2].tolist()


@pytest.mark.parametrize("layout", ["classifier.pth", "checkpoint.tar"])
def test_densenets_of_dime_and_steex(folder: Path, layout: str) -> None:
    torch.manual_seed(0)
    trunk, head = lively(densenet121(weights=None)), nn.Linear(1024, 40)
    features = {f"feat_extract.{name}": value for name, value in trunk.state_dict().items() if name.startswith("features.")}
    both = {f"feat_extract.{name}": value for name, value in features.items()}
    both |= {f"classifier.{name}": value for name, value in head.state_dict().items()}
    parts = {"feat_extract": features, "classifier": head.state_dict()}
    torch.save(parts if layout == "classifier.pth" else {"model_state_dict": both, "epoch": 3}, folder / layout)
    config = ClassifierConfig(
        weights=folder / layout,
        module="cfx.networks.densenet:DenseNet121",
        kwargs={"outputs": 40},
        output=31,
        head="sigmoid",
        classes=("not_smiling", "smiling"),
    )
    with torch.no_grad():
        trunk.classifier = nn.Identity()
        expected = head(trunk(image()))[:, 31]
        logits = load_classifier(config)(image())
    torch.testing.assert_close(logits, torch.stack([torch.zeros(2), expected], 1), atol=1e-5, rtol=0)


def caffe_name(name: str) -> str:
    """torchvision's name of a ResNet50's weight, as Caffe's converted files call it."""
    if name.startswith(("conv1.", "bn1.")):
        return name.replace("bn1", "conv1_7x7_s2_bn").replace("conv1.", "conv1_7x7_s2.")
    stage, block, layer, *rest = name.removeprefix("layer").split(".")
    if layer == "downsample":
        layer, rest = f"1x1_proj{'_bn' if rest[0] == '1' else ''}", rest[1:]
    parts = {"conv1": "1x1_reduce", "conv2": "3x3", "conv3": "1x1_increase"}
    for number in "123":
        parts[f"bn{number}"] = parts[f"conv{number}"] + "_bn"
    return f"conv{int(stage) + 1}_{int(block) + 1}_{parts.get(layer, layer)}.{'.'.join(rest)}"


def test_both_names_of_the_face_resnet_are_one_network() -> None:
    torch.manual_seed(0)
    vgg, caffe = lively(VGGFace2()), FaceResNet50().eval()
    state = {caffe_name(n): value for n, value in vgg.network.state_dict().items() if not n.startswith("fc.")}
    caffe.load_state_dict(state, strict=True)
    x = image(224)
    with torch.no_grad():
        prepared = (x.flip(1) + 1) * 127.5 - torch.tensor([91.4953, 103.8827, 131.0912]).view(3, 1, 1)
        features = caffe(prepared)
        torch.testing.assert_close(vgg(x), features, atol=1e-4 * float(features.abs().max()), rtol=0)
    strided = [name for name, part in caffe.named_modules() if isinstance(part, nn.Conv2d) and part.stride == (2, 2)]
    later = [f"conv{stage}_1_1x1_{part}" for stage, _, _ in STAGES if stage > 2 for part in ("reduce", "proj")]
    assert strided == ["conv1_7x7_s2", *later]


def test_oracle_of_celeba(folder: Path) -> None:
    torch.manual_seed(0)
    made = lively(CelebAOracle())
    parts = {"feat_extract": made.feat_extract.state_dict(), "classifier": made.classifier.state_dict()}
    assert {"conv5_3_1x1_increase_bn.running_var", "feat_extract.weight"} <= parts["feat_extract"].keys()
    assert parts["feat_extract"]["feat_extract.weight"].shape == (128, 2048, 1, 1)
    torch.save(parts, folder / "oracle.pth")
    config = {"module": "cfx.networks.face_resnet:CelebAOracle", "attributes": CELEBA}
    oracle = load_oracle(OracleConfig(weights=folder / "oracle.pth", **config))
    with torch.no_grad():
        torch.testing.assert_close(oracle(image()), made(image()).sigmoid())
    # blue, green, red in [0, 1], less the mean of red, green, blue: the trap that the network was trained with
    expected = [0 - 131.0912 / 255, 0.5 - 103.8827 / 255, 1 - 91.4953 / 255]
    assert first_seen(made, made.feat_extract.conv1_7x7_s2, COLOURED) == pytest.approx(expected, abs=1e-6)


def test_oracle_of_celebahq(folder: Path) -> None:
    torch.manual_seed(0)
    made = lively(CelebAHQOracle())
    torch.save({"model_state_dict": made.state_dict(), "epoch": 9}, folder / "checkpoint.tar")
    config = {"module": "cfx.networks.face_resnet:CelebAHQOracle", "attributes": CELEBA}
    oracle = load_oracle(OracleConfig(weights=folder / "checkpoint.tar", **config))
    with torch.no_grad():
        torch.testing.assert_close(oracle(image()), made(image()).sigmoid())
    assert first_seen(made, made.feat_extract.conv1_7x7_s2, COLOURED) == pytest.approx([1, 0, -1], abs=1e-6)


class Python2(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_bytes(self, content: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(content)) + content)  # type: ignore[attr-defined] # of the Pickler in Python
        self.memoize(content)  # type: ignore[attr-defined]

    dispatch[bytes] = save_bytes


def test_vggface2_from_a_pickle_of_python_2(folder: Path) -> None:
    torch.manual_seed(0)
    made = lively(VGGFace2())
    state = {n: value.numpy() for n, value in made.network.state_dict().items() if "num_batches" not in n}
    with (folder / "resnet50_ft_weight.pkl").open("wb") as file:
        Python2(file, protocol=2).dump(state)
    written = (folder / "resnet50_ft_weight.pkl").read_bytes()
    assert b"numpy._core" in written
    (folder / "resnet50_ft_weight.pkl").write_bytes(written.replace(b"cnumpy._core", b"cnumpy.core"))
    network = load_vggface2(folder / "resnet50_ft_weight.pkl")
    with torch.no_grad():
        features = network(image(48))
        torch.testing.assert_close(features, made(image(48)))
    assert features.shape == (2, 2048)
    expected = [0 - 91.4953, 127.5 - 103.8827, 255 - 131.0912]  # blue, green, red, less their own means
    assert first_seen(network, network.network.conv1, COLOURED) == pytest.approx(expected, abs=1e-3)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (Path("touched-by-a-pickle"),)


@pytest.mark.parametrize("content", [{"a": Hostile()}, {"a": np.array([Hostile()])}, [1], {"a": "text"}])
def test_a_pickle_of_anything_but_arrays_is_refused(folder: Path, content: object) -> None:
    (folder / "weights.pkl").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ValueError, match=r"weights\.pkl is not a pickled dict of NumPy arrays"):
        read_state_dict(folder / "weights.pkl")
    assert not Path("touched-by-a-pickle").exists()


def test_simsiam(folder: Path) -> None:
    torch.manual_seed(0)
    encoder, predictor = resnet50(num_classes=2048), nn.Sequential(nn.Linear(2048, 512, bias=False), nn.BatchNorm1d(512))
    linear = [nn.Linear(2048, 2048, bias=False), nn.BatchNorm1d(2048), nn.ReLU()]
    again = [nn.Linear(2048, 2048, bias=False), nn.BatchNorm1d(2048), nn.ReLU()]
    encoder.fc = nn.Sequential(*linear, *again, encoder.fc, nn.BatchNorm1d(2048, affine=False))
    predictor = nn.Sequential(*predictor, nn.ReLU(), nn.Linear(512, 2048))
    lively(encoder)
    state = {f"module.encoder.{name}": value for name, value in encoder.state_dict().items()}
    state |= {f"module.predictor.{name}": value for name, value in predictor.state_dict().items()}
    path = folder / "checkpoint_0099.pth.tar"
    torch.save({"epoch": 100, "arch": "resnet50", "state_dict": state, "optimizer": {"state": {}}}, path)
    network, x = load_simsiam(path), image()
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(network(x), encoder(((x + 1) / 2 - mean) / std))
    state["module.encoder.fc.9.weight"] = state.pop("module.encoder.fc.4.weight")
    torch.save({"state_dict": state}, path)
    with pytest.raises(ValueError) as error:
        load_simsiam(path)
    assert '"encoder.fc.4.weight"' in str(error.value) and '"encoder.fc.9.weight"' in str(error.value)


@pytest.mark.parametrize(("load", "message"), [(load_vggface2, "resnet50_ft_weight.pkl"), (load_simsiam, "checkpoint_0099")])
def test_a_missing_file_is_reported_with_where_it_is_to_be_had(load: Callable[[Path], object], message: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"nowhere; get {message}"):
        load(Path("nowhere"))
