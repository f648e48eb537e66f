"""What a file of settings says means one thing, wherever it lies and whoever reads it, or it is refused with place and way
out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

from cfx.beside import BESIDE, look_beside
from cfx.classifiers import ClassifierConfig
from cfx.diffusion.training import PriorTraining
from cfx.errors import ConfigError
from cfx.user_code import import_named
from cfx.yaml_reading import read
from flows.config import load_config, training_config
from flows.paths import absolute, expanded
from tasks.config import AuditConfig

BASE = """\
name: trial
data: {images: data/images, table: data/table.csv}
classifier: {weights: net.safetensors}
prior: {path: portraits:prior}
"""


def written(folder: Path, text: str | bytes, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(path)
    return str(error.value)


# --- keys that stand twice, and what YAML reads otherwise than it looks ---


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(BASE + "classifier: {weights: other.pt}\n", ["'classifier'", "line 3", "line 5"], id="a second classifier"),
        pytest.param(BASE + "judge: {weights: a, weights: b}\n", ["'weights'", "line 5"], id="in one line"),
        pytest.param(
            BASE + "judge:\n  weights: a\n  mean: [0, 0, 0]\n  weights: b\n", ["'weights'", "line 6", "line 8"], id="nested"
        ),
        pytest.param(
            BASE + "ladder:\n  - method: dime\n    tau: 5\n    tau: 6\n", ["'tau'", "line 7", "line 8"], id="inside a list"
        ),
        pytest.param(BASE + 'seeds: [0]\n"seeds": [1]\n', ["'seeds'", "line 5", "line 6"], id="once in quotes"),
        pytest.param(BASE + "hierarchy: {cat: [a], dog: [b], cat: [c]}\n", ["'cat'"], id="of a class"),
        pytest.param(BASE + "judge: {<<: {weights: a, weights: b}}\n", ["'weights'"], id="in what is merged"),
        pytest.param(BASE + "hierarchy: {no: [face], yes: [face]}\n", ["line 5", "no", 'quote it: "no"'], id="no as a name"),
        pytest.param(BASE + "hierarchy: {on: [face]}\n", ['quote it: "on"'], id="on as a name"),
        pytest.param(BASE + "hierarchy: {null: [face]}\n", ['quote it: "null"'], id="null as a name"),
        pytest.param(BASE + "hierarchy: {2020-01-01: [face]}\n", ['quote it: "2020-01-01"'], id="a date as a name"),
        pytest.param(BASE + "hierarchy: {3: [face]}\n", ["hierarchy.3", 'quote it: "3"'], id="a number as a name"),
        pytest.param(BASE + "target: no\n", ["target", 'quote it: "no" or "off"'], id="no as the target"),
        pytest.param(BASE + "target_attribute: on\n", ["target_attribute", '"yes" or "on"'], id="on as an attribute"),
        pytest.param(BASE + "gate: {forbidden: [3]}\n", ["gate.forbidden.0", 'quote it: "3"'], id="3 as an attribute"),
        pytest.param(BASE + "target: 010\n", ["line 5", "010", "the number 8", "quote it"], id="010 as a class"),
        pytest.param(BASE + "seeds: [010]\n", ["010", "the number 8"], id="010 as a number"),
        pytest.param(BASE + "margin: 1:30\n", ["1:30", "the number 90"], id="a number to the base of 60"),
        pytest.param(BASE + "margin: 1:30.5\n", ["1:30.5", "the number 90.5"], id="such a fraction"),
    ],
)
def test_what_does_not_mean_one_thing_is_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    said = refusal(written(tmp_path, text))
    assert "\n" not in said and str(tmp_path / "run.yaml") in said
    assert [word for word in words if word not in said] == []


@pytest.mark.parametrize(
    ("classes", "places"),
    [
        ("[no, yes]", {0: '"no" or "off"', 1: '"yes" or "on"'}),
        ("[on, off]", {0: '"yes" or "on"', 1: '"no" or "off"'}),
        ("[True, n]", {0: '"yes" or "on"'}),
        ("[3, 8]", {0: '"3"', 1: '"8"'}),
        ("[a, 1.5]", {1: '"1.5"'}),
        ("[a, 2020-01-01]", {1: '"2020-01-01"'}),
        ("[a, null]", {1: '"null"'}),
        ("[a, ~]", {1: '"null"'}),
        ("[a, ]", {}),
    ],
)
def test_class_names_that_are_not_text_say_quote_it_each_at_its_place(
    tmp_path: Path, classes: str, places: dict[int, str]
) -> None:
    said = refusal(written(tmp_path, BASE.replace("net.safetensors", f"net.pt, classes: {classes}"))).splitlines()
    assert len(said) == max(1, len(places))
    for line, (place, quoted) in zip(said, places.items(), strict=False):
        assert f"classes.{place}: " in line and f"quote it: {quoted}" in line


@pytest.mark.parametrize("classes", ['["no", "yes"]', "['3', '8']", "[1e3, y]", '["010", "null"]', "[Norway, 08]"])
def test_class_names_that_are_text_are_kept_as_they_are(tmp_path: Path, classes: str) -> None:
    config = load_config(written(tmp_path, BASE.replace("net.safetensors", f"net.pt, classes: {classes}")))
    assert list(config.classifier.classes or ()) == [name.strip(" '\"") for name in classes[1:-1].split(",")]


def test_a_thousand_classes_that_are_numbers_are_a_few_lines(tmp_path: Path) -> None:
    said = refusal(written(tmp_path, BASE.replace("net.safetensors", f"net.pt, classes: {list(range(1000))}"))).splitlines()
    assert len(said) == 7 and "994 more" in said[-1]


# --- files that are no settings ---

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(BOMB, ["aliases", "line 6"], id="billion laughs"),
        pytest.param(
            BOMB.replace("[", "{k: [").replace("]", "]}").replace("{k: [x", "[x").replace("x]}", "x]"),
            ["aliases"],
            id="in mappings",
        ),
        pytest.param("a: &a [*a]\n", ["line 1", "holds itself"], id="a list in itself"),
        pytest.param("a: 2020-13-45\n", ["line 1", "is no timestamp", "quote"], id="a date that is none"),
        pytest.param("a: !!int x\n", ["line 1", "is no int"], id="a tag that does not fit"),
        pytest.param("a: !!bool x\n", ["line 1", "is no bool"], id="a truth value that is none"),
        pytest.param(f"a: {'9' * 5000}\n", ["line 1", "5,000 digits"], id="a number without end"),
        pytest.param(f"a: 1{':01' * 5000}\n", ["line 1", "15,001 digits"], id="a time without end"),
        pytest.param('a: "\\ud800"\n', ["line 1", "no text holds"], id="half a sign"),
        pytest.param('a: "\\0"\n', ["line 1", "no text holds"], id="a NUL in quotes"),
        pytest.param("a: &a\n  b: {c: *a}\n", ["holds itself"], id="a mapping in itself"),
        pytest.param("a: &a {? *a : 1}\n", ["line 1"], id="as its own key"),
        pytest.param("[" * 900, ["nested too deeply"], id="900 levels"),
        pytest.param("a: " + "x" * (2 * 2**20), ["bytes"], id="two million letters"),
        pytest.param(BASE.replace("trial", "träl").encode("latin-1"), ["line 1", "save the file as UTF-8"], id="latin-1"),
        pytest.param((BASE + "# £").encode("cp1252"), ["line 5", "save the file as UTF-8"], id="cp1252 in a comment"),
        pytest.param(BASE.encode("utf-16"), ["save the file as UTF-8"], id="UTF-16"),
        pytest.param(BASE.encode("utf-16-le"), ["save the file as UTF-8"], id="UTF-16 without a mark"),
        pytest.param(BASE.encode("utf-32"), ["save the file as UTF-8"], id="UTF-32"),
        pytest.param("name: x\n\tdata: 3\n", ["line 2", "spaces"], id="a tab"),
        pytest.param("data:\n\timages: x\n", ["line 2", "spaces"], id="indented by a tab"),
        pytest.param("", ["nothing"], id="empty"),
        pytest.param("# only this\n", ["nothing"], id="a comment alone"),
        pytest.param("---\n...\n", ["nothing"], id="an empty document"),
        pytest.param("- name: trial\n", ["a list"], id="a list at the top"),
        pytest.param("file,label\na.png,cat\n", ["'file,label"], id="a table"),
        pytest.param(BASE + "---\nname: other\n", ["line 5", "another document"], id="two documents"),
        pytest.param("name: {{ name }}\n", ["line 1", "quotes"], id="a template"),
        pytest.param("name: @home\n", ["line 1", "column 7", "quotes"], id="a sign"),
        pytest.param("name: *star\n", ["'star'", "quotes"], id="an alias of nothing"),
        pytest.param("name: !!python/object/apply:os.getcwd []\n", ["line 1", "python/object"], id="code"),
        pytest.param("data: {images: ${HOME}/x, table: y}\n", ["line 1", "braces", "quotes"], id="braces in braces"),
        pytest.param("name: [a\n", ["line 2", "']'"], id="no end"),
        pytest.param("name: trial\ndata: a: b\n", ["line 2", "mapping values"], id="two colons"),
        pytest.param(BASE + "shard_sise: 3\n", ["shard_sise", "did you mean 'shard_size'?"], id="unknown"),
        pytest.param(BASE + "Shard_Size: 3\n", ["Shard_Size", "no such setting"], id="in capitals"),
    ],
)
def test_a_file_that_is_no_settings_is_one_line_with_its_name(tmp_path: Path, text: str | bytes, words: list[str]) -> None:
    said = refusal(written(tmp_path, text))
    assert "\n" not in said and said.startswith(str(tmp_path / "run.yaml"))
    assert [word for word in words if word not in said] == []


def test_a_folder_and_a_file_that_is_not_there_are_told_apart(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)
    assert "no such file" in refusal(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\xef\xbb\xbf" + BASE.encode(), id="BOM"),
        pytest.param(BASE.replace("\n", "\r\n").encode(), id="CRLF"),
        pytest.param(BASE.rstrip().encode(), id="no last newline"),
        pytest.param(b"---\n" + BASE.encode() + b"...\n", id="marks of a document"),
        pytest.param(
            BASE.replace("classifier:", "judge: &j {weights: j.pt}\nclassifier:")
            .replace("{weights: net", "{<<: *j, weights: net")
            .encode(),
            id="merged",
        ),
    ],
)
def test_files_that_are_fine(tmp_path: Path, text: bytes) -> None:
    config = load_config(written(tmp_path, text))
    assert isinstance(config.classifier, ClassifierConfig) and config.classifier.weights == tmp_path / "net.safetensors"
    assert config.name == "trial"


def test_an_alias_that_is_used_often_is_fine(tmp_path: Path) -> None:
    aliases = ", ".join(["*c"] * 500)
    values = read(written(tmp_path, f"a: &c [x, y]\nb: [{aliases}]\n"))
    assert values["b"] == [["x", "y"]] * 500


# --- paths ---

FULL = (
    BASE
    + """\
warehouse: w
judge: {access: json, url: "http://here", classes: [a, b], request: r, response: r, ca: ca.pem}
oracle: {weights: oracle.pt}
ladder:
  - {method: dvce, robust: {weights: robust.pt}}
words: {model: words}
interventions: {named: {model: named, words: {hat: hat}}}
saliency: {regions: regions}
masks: masks
measures: {inception: i.pth, vggface2: v.pkl, simsiam: s.tar, vgg16: v16.pth, alexnet: a.pth}
canary: {planted: {weights: p.pt}, clean: {weights: c.pt}, attribute: hat}
"""
)


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


def test_every_path_is_relative_to_the_file_wherever_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("words", "named"):
        (tmp_path / name).mkdir()
    config = load_config(written(tmp_path, FULL))
    names = "w data/images data/table.csv net.safetensors ca.pem oracle.pt robust.pt words named regions masks "
    names += "i.pth v.pkl s.tar v16.pth a.pth p.pt c.pt"
    assert {str(tmp_path / name) for name in names.split()} <= set(texts(config.model_dump(mode="json")))


def path_settings(kind: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """Every place of text in the schema, with its schema."""
    schema = kind.model_json_schema()

    def below(part: dict[str, Any], place: str, around: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
        if "$ref" in part and part["$ref"] not in around:
            yield from below(schema["$defs"][part["$ref"].rpartition("/")[2]], place, (*around, part["$ref"]))
        if part.get("type") == "string" and "enum" not in part and "const" not in part:
            yield place, part
        unions = [(inner, place) for key in ("anyOf", "oneOf") for inner in part.get(key, ())]
        inside = [(inner, f"{place}.{name}") for name, inner in part.get("properties", {}).items()]
        kinds = {"items": "*", "additionalProperties": "NAME"}
        inside += [(part[key], f"{place}.{each}") for key, each in kinds.items() if isinstance(part.get(key), dict)]
        for inner, where in unions + inside:
            yield from below({"description": part.get("description", "")} | inner, where, around)

    return dict(below(schema, "", ()))


NO_PATHS = {"data.file_column", "cluster", "report_url"}  # whose words name a file, or which is an address, without being a path


@pytest.mark.parametrize("kind", [AuditConfig, PriorTraining])
def test_the_schema_says_of_each_setting_whether_it_is_a_path(kind: type[BaseModel], tmp_path: Path) -> None:
    """A new setting whose description speaks of a file or folder, and that is no path, fails here."""
    settings = path_settings(kind)
    looks = {
        place.lstrip(".")
        for place, part in settings.items()
        if any(
            word in part.get("description", "").lower()
            for word in ("folder", "file ", "file:", "file of", ".pt", ".pkl", ".onnx")
        )
        and not place.endswith((".module", ".allow_pickle", ".key", ".output", ".classes.*", ".classes.NAME"))
    }
    paths = {place.lstrip(".") for place, part in settings.items() if part.get("format", "").startswith("path")}
    assert paths and looks - paths <= NO_PATHS
    for place in paths:
        values: Any = "here"
        for part in reversed(place.split(".")):
            values = [values] if part == "*" else {part: values}
        (tmp_path / "here").mkdir(exist_ok=True)
        assert list(texts(absolute(kind, values, tmp_path))) == [str(tmp_path / "here")], place


def test_a_text_that_is_no_path_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "opposite").mkdir()
    config = load_config(written(tmp_path, BASE + "target: opposite\nwords: {model: org/model}\n"))
    assert config.target == "opposite" and config.words is not None and config.words.model == "org/model"
    assert config.prior is not None and config.prior.path == "portraits:prior"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("~/w", "{home}/w"),
        ("~", "{home}"),
        ("$CFX_PLACE/w", "{here}/w"),
        ("${CFX_PLACE}/w", "{here}/w"),
        ("${CFX_PLACE}-$CFX_PART", "{here}-7"),
        ("a/$CFX_PART/b", "{file}/a/7/b"),
        ("s3://$CFX_PART/w", "s3://7/w"),
        ("s3://bucket/w", "s3://bucket/w"),
        ("cost$$5", "{file}/cost$5"),
        ("cost$5", "{file}/cost$5"),
        ("a~b", "{file}/a~b"),
        ("a:b", "{file}/a:b"),
        ("../w", "{above}/w"),
        ("/w", "/w"),
    ],
)
def test_home_and_variables_in_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, found: str) -> None:
    for name, value in {"HOME": str(tmp_path / "home"), "CFX_PLACE": str(tmp_path / "place"), "CFX_PART": "7"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "file").mkdir()
    values = absolute(AuditConfig, {"data": {"images": text}}, tmp_path / "file")
    named = {"home": tmp_path / "home", "here": tmp_path / "place", "file": tmp_path / "file", "above": tmp_path}
    assert values == {"data": {"images": found.format(**named)}}


@pytest.mark.parametrize("text", ["$CFX_NOT_SET/w", "${CFX_NOT_SET}/w", "s3://$CFX_NOT_SET/w", "a/$CFX_NOT_SET"])
def test_a_variable_that_is_not_set_is_refused_by_name(tmp_path: Path, text: str) -> None:
    said = refusal(written(tmp_path, BASE.replace("data/images", f"'{text}'")))
    assert "data.images" in said and "'CFX_NOT_SET'" in said and said.startswith(str(tmp_path / "run.yaml"))


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFX_EMPTY", "")
    with pytest.raises(ConfigError, match="'CFX_EMPTY'"):
        expanded("$CFX_EMPTY/w", "warehouse")


def test_a_trainings_own_file_has_its_paths_relative_to_it_too(tmp_path: Path) -> None:
    assert training_config(PriorTraining, written(tmp_path, "start: prior\n")).start == tmp_path / "prior"


# --- the user's modules ---


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two folders with a my_net of their own, and a current folder with a third; all is forgotten afterwards."""
    for name in ("one", "two", "current"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "my_net.py").write_text(f"from my_part import PART\nNAME = '{name}'\ndef made(): return NAME, PART\n")
        (tmp_path / name / "my_part.py").write_text(f"PART = '{name}'\n")
        written(tmp_path / name, BASE)
    (tmp_path / "empty").mkdir()
    written(tmp_path / "empty", BASE)
    before = BESIDE.folder
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path / "empty")
    yield tmp_path
    look_beside(tmp_path / "nowhere")
    BESIDE.folder = before
    for name in ("my_net", "my_part", "my_package"):
        sys.modules.pop(name, None)


def made(reference: str = "my_net:made") -> Any:
    return import_named(reference)[1]()


def test_each_file_gets_the_module_beside_it(modules: Path) -> None:
    for name in ("one", "two", "one"):
        load_config(modules / name / "run.yaml")
        assert made() == (name, name)  # with what it imports in turn


def test_a_module_beside_the_file_wins_over_the_current_folders(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("", str(modules / "current")):  # as `python -m` and as `cfx` have it
        monkeypatch.chdir(modules / "current")
        monkeypatch.syspath_prepend(place)
        load_config(modules / "one" / "run.yaml")
        assert made() == ("one", "one")
        look_beside(modules / "empty")


def test_a_module_of_the_current_folder_that_was_named_before_gives_way(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(modules / "current")
    monkeypatch.syspath_prepend(str(modules / "current"))
    load_config(modules / "empty" / "run.yaml")
    assert made() == ("current", "current")
    load_config(modules / "two" / "run.yaml")
    assert made()[0] == "two"


def test_another_files_module_is_not_lent(modules: Path) -> None:
    load_config(modules / "one" / "run.yaml")
    assert made() == ("one", "one")
    load_config(modules / "empty" / "run.yaml")
    with pytest.raises(ImportError, match="cannot import 'my_net'") as error:
        made()
    assert str(modules / "empty") in str(error.value) and str(modules / "one") not in str(error.value)


def test_a_configuration_keeps_its_own_folder(modules: Path) -> None:
    first, second = (load_config(modules / name / "run.yaml") for name in ("one", "two"))
    assert (first.folder, second.folder) == (modules / "one", modules / "two")
    look_beside(first.model_copy(update={"name": "again"}).folder)
    assert made() == ("one", "one")
    assert first.result_hash() == first.model_copy().result_hash() and "folder" not in first.model_dump()


def test_packages_and_folders_without_init_are_found_too(modules: Path) -> None:
    for name, init in (("one", True), ("two", False)):
        (modules / name / "my_package").mkdir()
        (modules / name / "my_package" / "net.py").write_text(f"def made(): return '{name}'\n")
        if init:
            (modules / name / "my_package" / "__init__.py").write_text("")
    for name in ("one", "two", "one"):
        load_config(modules / name / "run.yaml")
        assert made("my_package.net:made") == name


def test_a_file_called_like_a_library_is_not_taken_for_it(modules: Path) -> None:
    for name in ("json", "yaml", "torchvision"):
        (modules / "one" / f"{name}.py").write_text("raise RuntimeError")
    load_config(modules / "one" / "run.yaml")
    assert json.loads("1") == 1 and str(modules) not in str(json.__file__)
    found = import_named("yaml:safe_load")[0]
    assert isinstance(found, ModuleType) and str(modules) not in str(found.__file__)
