"""A cached thing is known by all that it depends on: audits that differ in one setting, one file or one line of the user's code
share no fact that the difference could have changed."""

from __future__ import annotations

import shutil
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import torch
from pydantic import BaseModel

from cfx.checkpoint import save_network
from cfx.classifiers import ClassifierConfig
from cfx.user_code import import_named, importable_from, sources_of
from tasks.black_boxes import answers_of, ledger_of
from tasks.check import check
from tasks.config import WITHOUT_EFFECT, AuditConfig
from tasks.run import Run
from tasks.stages.ingest import ingest
from tasks.stages.interventions import Wanted, draw_edits, edits_id, sampled
from tasks.stages.predict import predict
from tasks.stages.prior import prior_folder
from tests.cases.tiny import LAYERS, NETWORK, SIDE, Pooled, lay_out, settings
from warehouse.facts.shards import read_shard


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    lay_out(home)
    importable_from(home)
    return home


def leaves(model: BaseModel, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Every setting of a configuration, however deep, with its type and value; a part that is not set is one setting."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*place, name))
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            yield from leaves(value[0], (*place, name, "0"))
        else:
            yield (*place, name), field.annotation, value


def other(kind: Any, value: Any) -> Any:
    """A value of this type that is not this one. It need not be sensible: only what it is known by counts."""
    if get_origin(kind) is Annotated:
        return other(get_args(kind)[0], value)
    if get_origin(kind) is Literal:
        return next((choice for choice in get_args(kind) if choice != value), f"not {value}")
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, Path):
        return value.with_name(f"{value.name}x")
    if isinstance(value, tuple):
        return (*value, value[-1] if value else 1)
    if isinstance(value, dict):
        return value | {"another": 1}
    if get_origin(kind) in (Union, types.UnionType):  # nothing yet: anything
        return 7
    return f"other than {value}"


def with_setting(config: BaseModel, place: tuple[str, ...], value: Any) -> Any:
    """The configuration with one setting changed, unvalidated: what cannot be is refused elsewhere."""
    name, *rest = place
    inner = getattr(config, name)
    if isinstance(inner, tuple) and rest and rest[0] == "0":
        changed: Any = (with_setting(inner[0], tuple(rest[1:]), value), *inner[1:])
    else:
        changed = with_setting(inner, tuple(rest), value) if rest else value
    return config.model_copy(update={name: changed})


def everything() -> AuditConfig:
    """A configuration in which every optional part is there, so that the walk reaches all its settings."""
    return AuditConfig.model_validate(
        settings(Path("/nowhere"))
        | {
            "judge": {"weights": "portraits:judge"},
            "prior": {"train": {}},
            "surrogate": {},
            "words": {"model": "portraits:text"},
            "canary": {
                "planted": {"weights": "portraits:planted"},
                "clean": {"weights": "portraits:clean"},
                "attribute": "hat",
            },
            "saliency": {},
            "measures": {"autoencoders": {}},
            "gate": {},
            "interventions": {"named": {"model": "portraits:text", "words": {"hat": "hat"}}},
        }
    )


WALKED = {".".join(place): (place, kind, value) for place, kind, value in leaves(everything())}
EFFECTLESS = {name for name in WALKED for key in WITHOUT_EFFECT if WITHOUT_EFFECT[key] is True and name.split(".")[0] == key}
EFFECTLESS |= {
    name for name in WALKED if name.split(".")[0] in ("classifier", "judge") and name.split(".")[1] in ("limits", "auth", "ca")
}


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # the other value is of no valid kind
@pytest.mark.parametrize("name", WALKED)
def test_a_changed_setting_is_another_run_or_says_that_it_has_no_effect(name: str) -> None:
    place, kind, value = WALKED[name]
    changed = with_setting(everything(), place, other(kind, value))
    assert (changed.result_hash() == everything().result_hash()) is (name in EFFECTLESS)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("name", [name for name in WALKED if name.startswith("prior.train.")])
def test_a_changed_training_of_the_prior_is_another_prior(name: str) -> None:
    place, kind, value = WALKED[name]
    prior, changed = everything().prior, with_setting(everything(), place, other(kind, value)).prior
    assert prior is not None
    assert prior_folder(Path("w"), changed, "data") != prior_folder(Path("w"), prior, "data")
    assert prior_folder(Path("w"), prior, "other data") != prior_folder(Path("w"), prior, "data")


def run(home: Path, **changed: Any) -> Run:
    """A checked audit; `changed`: settings by their place, as in `interventions__share`."""
    values = settings(home)
    for place, value in changed.items():
        part, *rest = place.split("__")
        values[part] = values[part] | {rest[0]: value} if rest else value
    return check(AuditConfig.model_validate(values))


def edits(one: Run, attribute: int = 1) -> list[dict[str, Any]]:
    """Two images of the run with one attribute edited, drawn on an empty warehouse or beside what others drew."""
    ((shards, ids), *_) = sampled(ingest(one), 2, 2)
    rows: list[dict[str, Any]] = read_shard(draw_edits(one, Wanted(attribute, shards, ids))).to_pylist()
    return [{name: value for name, value in row.items() if name not in ("run_id", "seconds")} for row in rows]


EDITED: dict[str, dict[str, Any]] = {
    "steps": {"interventions__steps": 6},
    "tau": {"interventions__tau": 3},
    "scale": {"interventions__scale": 80.0},
    "share": {"interventions__share": 0.5},
    "oracle's std": {"oracle__std": (0.25, 0.25, 0.25)},
    "oracle's mean": {"oracle__mean": (0.4, 0.4, 0.4)},
    "oracle's names": {"oracle__attributes": ("smile", "spectacles", "hat")},
    "oracle's input size": {"oracle__input_size": 8},
    "image size": {"data__size": 24},
    "smallest side": {"data__min_side": 9},
    "images a shard": {"shard_size": 3},
    "seed": {"seeds": (1,)},
    "margin": {"margin": 0.2},
    "side effects allowed": {"interventions__side": 0.9},
    "target": {"target": "smiling"},
    "target attribute": {"target_attribute": "smile"},
    "ladder": {"ladder": [{"method": "fastdime", "steps": 5, "tau": 1, "scale": 9.0}]},
    "thumbnails": {"thumbnails": False},
    "name": {"name": "another"},
}


@pytest.mark.parametrize("changed", EDITED.values(), ids=EDITED)
def test_beside_another_audit_edits_are_what_they_are_alone(home: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    edits(run(home, warehouse=together))
    assert edits(run(home, warehouse=together, **changed)) == edits(run(home, warehouse=alone, **changed))


def test_another_classifier_shares_the_edits(home: Path) -> None:
    """What the identity must not hold: then nothing would be shared."""
    turned = run(home, classifier__classes=("smiling", "not_smiling"))
    assert edits_id(turned) == edits_id(run(home)) and turned.id != run(home).id


def rewrite_layers(home: Path) -> None:
    (home / "layers.py").write_text(LAYERS.replace("mean", "amax"))


def rewrite_forward(home: Path) -> None:
    (home / "identity_net.py").write_text(NETWORK.replace("pooled(x))", "pooled(-x))"))


def retrain(home: Path) -> None:
    torch.manual_seed(9)
    save_network(home / "classifier.safetensors", Pooled(2), {})


def redraw_an_image(home: Path) -> None:
    first, second, *_ = sorted((home / "data/images").iterdir())
    first.write_bytes(second.read_bytes())


def retrain_the_prior(home: Path) -> None:
    path = home / "prior/unet/diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def relabel(home: Path) -> None:
    path = home / "data/attributes.csv"
    path.write_text(path.read_text().replace("not_smiling", "smiling", 1))


CHANGES = (rewrite_layers, rewrite_forward, retrain, redraw_an_image, retrain_the_prior, relabel)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_a_file_holds_is_part_of_what_a_run_is(home: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    copy = tmp_path / "home"
    shutil.copytree(home, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(copy))
        for name in ("identity_net", "layers"):
            patch.delitem(__import__("sys").modules, name, raising=False)
        before = run(copy)
        change(copy)
        assert run(copy).id != before.id


ANSWERS = """
from own_helper import high


def answers(images):
    return [[1 - high, high] for _ in images]
"""


def callable_and_its_helper(home: Path) -> tuple[dict[str, Any], Callable[[], object]]:
    """A function, and what changes the module that its own imports."""
    (home / "own_answers.py").write_text(ANSWERS)
    (home / "own_helper.py").write_text("high = 0.25")
    return {"access": "callable", "module": "own_answers:answers"}, lambda: (home / "own_helper.py").write_text("high = 0.75")


def onnx_and_its_data(home: Path) -> tuple[dict[str, Any], Callable[[], object]]:
    """An ONNX file, and what changes the file of its weights, which it names."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    nodes = [onnx.helper.make_node("Flatten", ["x"], ["flat"]), onnx.helper.make_node("MatMul", ["flat", "w"], ["y"])]
    shapes = [
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)]
        for name, shape in (("x", ["n", 3, SIDE, SIDE]), ("y", ["n", 2]))
    ]
    weights = torch.linspace(-0.01, 0.01, 6 * SIDE**2).reshape(-1, 2).numpy()
    graph = onnx.helper.make_graph(nodes, "linear", *shapes, [onnx.numpy_helper.from_array(weights, "w")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path, data = home / "m.onnx", home / "m.weights"
    onnx.save(model, path, save_as_external_data=True, location=data.name, size_threshold=0)
    return {"access": "onnx", "weights": path, "answers": "logits"}, lambda: data.write_bytes(weights[:, ::-1].tobytes())


@pytest.mark.parametrize("behind", [callable_and_its_helper, onnx_and_its_data], ids=lambda behind: behind.__name__)
def test_what_lies_behind_a_black_box_is_part_of_what_a_run_is_and_queried_anew(
    home: Path, tmp_path: Path, behind: Callable[[Path], tuple[dict[str, Any], Callable[[], object]]]
) -> None:
    copy = tmp_path / "home"
    shutil.copytree(home, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(copy))
        classifier, change = behind(copy)
        settings = {"classifier": classifier | {"classes": ("not_smiling", "smiling")}, "prior": None, "oracle": None}

        def asked() -> tuple[str, int, list[float]]:
            """The run's id, how many images its classifier was sent, and what it answered."""
            one = run(copy, **settings)
            assert not isinstance(one.config.classifier, ClassifierConfig)
            answers = [row["probabilities"][1] for part in ingest(one) for row in read_shard(predict(one, part)).to_pylist()]
            return one.id, ledger_of(one.config.classifier, answers_of(one.root, one.id)).spent(), answers

        before, again = asked(), asked()
        assert again == before and before[1] == 8
        change()
        after = asked()
        assert after[0] != before[0] and after[1] == 8 and after[2] != before[2]


def test_the_regions_of_a_map_are_part_of_what_a_run_is(home: Path, tmp_path: Path) -> None:
    regions = tmp_path / "regions/hat"
    regions.mkdir(parents=True)
    (regions / "a.png").write_bytes(b"one")
    saliency = {"regions": str(tmp_path / "regions")}
    before = run(home, saliency=saliency)
    (regions / "a.png").write_bytes(b"two")
    assert run(home, saliency=saliency).id != before.id


def test_masks_are_part_of_what_a_run_is(home: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks/subject"
    shutil.copytree(home / "data/images", masks)
    before = run(home, masks=str(tmp_path / "masks"))
    next(masks.rglob("*.png")).write_bytes(b"two")
    assert len({run(home).id, before.id, run(home, masks=str(tmp_path / "masks")).id}) == 3


def test_sources_are_those_of_a_module_and_of_what_it_imports_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "own_package"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "deep/__init__.py").write_text("from .. import first")
    (package / "first.py").write_text("import torch\nfrom own_package import second\nimport alone_beside")
    (package / "second.py").write_text("def late():\n    from .third import what")
    (package / "third.py").write_text("what = 1")
    (package / "unused.py").write_text("what = 2")
    (tmp_path / "alone_beside.py").write_text("x = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    module, _ = import_named("own_package.deep:first")
    named = sources_of(module).split("\0")[::2]
    assert named == [
        "alone_beside",
        "own_package",
        "own_package.deep",
        "own_package.first",
        "own_package.second",
        "own_package.third",
    ]


def test_an_installed_module_is_known_by_its_version() -> None:
    assert sources_of(torch).startswith(f"{torch.__version__.partition('+')[0]}")
    assert len(sources_of(torch).split("\0")) == 2  # and not by the source of all that it imports


def test_external_data_of_onnx_is_part_of_a_model(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from cfx.classifiers.onnx import OnnxConfig, load_onnx

    weights = torch.randn(3 * 8 * 8, 600).numpy()
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["x"], ["flat"]),
            onnx.helper.make_node("MatMul", ["flat", "w"], ["y"]),
        ],
        "linear",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 600])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model, path = (
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "m.onnx",
    )
    onnx.save(model, path, save_as_external_data=True, location="m.weights", size_threshold=0)
    config = OnnxConfig(access="onnx", weights=path, classes=tuple(map(str, range(600))))
    before = load_onnx(config, "cpu")[1]
    assert load_onnx(config, "cpu")[1] == before
    (tmp_path / "other.weights").write_bytes(b"beside it, and not named")
    assert load_onnx(config, "cpu")[1] == before
    outside = tmp_path / "m.weights"
    outside.write_bytes(outside.read_bytes()[::-1])
    assert load_onnx(config, "cpu")[1] != before


@pytest.mark.parametrize("name", ["steps", "tau", "scale", "oracle's std", "image size"])
def test_such_a_setting_changes_the_edits(home: Path, tmp_path: Path, name: str) -> None:
    """Or the test above could not fail."""
    assert edits(run(home, warehouse=tmp_path / "a")) != edits(run(home, warehouse=tmp_path / "b", **EDITED[name]))


def test_what_a_module_imports_is_run_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another identity with the answers of before would be the worst of both: the two follow the same sources."""
    (tmp_path / "deepest_beside.py").write_text("sign = 1")
    (tmp_path / "deep_beside.py").write_text("from deepest_beside import sign\n\ndef answer():\n    return sign")
    (tmp_path / "named_beside.py").write_text("from deepest_beside import sign\nfrom deep_beside import answer")
    monkeypatch.syspath_prepend(str(tmp_path))
    module, answer = import_named("named_beside:answer")
    before = sources_of(module)
    assert answer() == 1
    (tmp_path / "deepest_beside.py").write_text("sign = 2")  # as long as before, and in the same second
    module, answer = import_named("named_beside:answer")
    assert answer() == module.sign == 2 and sources_of(module) != before
    assert import_named("named_beside:answer")[1] is answer  # unchanged: not run again
