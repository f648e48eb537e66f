"""YAML that means one thing: a key that stands twice, text that YAML would read as a number, and bombs are refused by line."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import yaml

from cfx.errors import ConfigError

MOST_NODES = 200_000  # of a file with its aliases written out; 1,000 classes with a hierarchy are 10,000
MOST_BYTES = 2**20
LONGEST = 100  # characters of a number
_SIGNS = "\t@`%*&!|>"  # no plain text may begin with them


def read(path: Path) -> Any:
    """The value in a YAML file. Raises ConfigError, one line that names the file, the line and the way out."""
    try:
        loader = _Loader(_text(path))
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _Walk(path, loader).size(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {_in_a_line(error)}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply for settings") from None


def _text(path: Path) -> str:
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; give the YAML file in it")
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; see examples/ for a configuration to start from")
    if path.stat().st_size > MOST_BYTES:
        raise ConfigError(f"{path}: has {path.stat().st_size:,} bytes; a file of settings has less than {MOST_BYTES:,}")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from None
    if "\0" in text:
        raise ConfigError(f"{path}: is not UTF-8 text; save the file as UTF-8")
    return text


def _in_a_line(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the excerpt."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    around, problem = getattr(error, "context", None), " ".join(str(problem).split())
    said = f"{around}, {problem}" if around else problem
    if mark is None:
        return f"not YAML: {said}"
    lines = str(mark.buffer or "").splitlines()
    written = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in written[: len(written) - len(written.lstrip())] or "'\\t'" in said:
        said += "; use spaces, not tabs"
    elif "quote" not in said and (written[mark.column : mark.column + 1] in tuple(_SIGNS) or "tag" in said or "alias" in said):
        said += "; put text that begins with a sign into quotes"
    elif "flow" in said:
        said += "; put text with braces, brackets or commas into quotes"
    return f"line {mark.line + 1}, column {mark.column + 1}: {said}"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML's plain types. 010 and 1:30, which YAML 1.1 reads as 8 and 90, are refused; so are more than MOST_NODES nodes, while
    they are read, and values that are not what their tags or their looks say, such as 2020-13-45."""

    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        self.nodes += 1
        if self.nodes > MOST_NODES:
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(
                None, None, f"here are more than {MOST_NODES:,} values, too many for settings", mark
            )
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:  # `2020-02-31`, `!!int x`, `0x_`
            what = f"{node.value[:40]!r}" if isinstance(node, yaml.ScalarNode) else "this"
            problem = (
                f"{what} is no {node.tag.rpartition(':')[2]}, as which YAML reads it ({str(error)[:80]}); quote what is text"
            )
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    _check_length(node)
    text = node.value.lstrip("+-").replace("_", "")
    value = int(loader.construct_yaml_int(node))
    if ":" in text or (len(text) > 1 and text[0] == "0" and text[1] not in "xb"):
        raise yaml.constructor.ConstructorError(
            None,
            None,
            f'YAML reads {node.value} as the number {value}: quote it, "{node.value}", or write the number',
            node.start_mark,
        )
    return value


def _check_length(node: yaml.ScalarNode) -> None:
    if len(node.value) > LONGEST:
        raise yaml.constructor.ConstructorError(
            None, None, f"a number of {len(node.value):,} digits; if it is text, put it into quotes", node.start_mark
        )


def _real(loader: _Loader, node: yaml.ScalarNode) -> float:
    _check_length(node)
    value = float(loader.construct_yaml_float(node))
    if ":" in node.value:
        raise yaml.constructor.ConstructorError(
            None, None, f'YAML reads {node.value} as the number {value:g}: quote it, "{node.value}"', node.start_mark
        )
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _whole)
_Loader.add_constructor("tag:yaml.org,2002:float", _real)


class _Walk:
    """Every node once: how large it is with its aliases written out, and its keys each once."""

    def __init__(self, path: Path, loader: _Loader) -> None:
        self._path, self._loader = path, loader
        self._sizes: dict[int, int | None] = {}  # by node; None while inside it

    def size(self, node: yaml.Node) -> int:
        """Raises ConfigError for a node that holds itself, for more than MOST_NODES, and for a key that stands twice."""
        if id(node) in self._sizes:
            known = self._sizes[id(node)]
            if known is None:
                raise ConfigError(f"{self._path}: line {_line(node)}: what `&` names here holds itself; write it out instead")
            return known
        self._sizes[id(node)] = None
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            self._once(node)
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif "\0" in node.value or any("\ud800" <= sign <= "\udfff" for sign in node.value):
            raise ConfigError(f"{self._path}: line {_line(node)}: here is a sign that no text holds; write it otherwise")
        size = 1 + sum(map(self.size, parts))
        if size > MOST_NODES:
            raise ConfigError(
                f"{self._path}: line {_line(node)}: with its aliases written out this holds more than {MOST_NODES:,} values, "
                "too many for settings"
            )
        self._sizes[id(node)] = size
        return size

    def _once(self, node: yaml.MappingNode) -> None:
        lines: dict[object, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(
                    f"{self._path}: line {_line(key)}: the name of a setting is one word; put text with braces into quotes"
                )
            name = "<<" if key.tag == "tag:yaml.org,2002:merge" else self._loader.construct_object(key)
            if name is None or isinstance(name, bool | date):
                raise ConfigError(
                    f'{self._path}: line {_line(key)}: YAML reads the name {key.value} as {name}; quote it: "{key.value}"'
                )
            if name in lines:
                where = f"in line {lines[name]} and in line {_line(key)}"
                raise ConfigError(f"{self._path}: {key.value!r} stands twice, {where}; keep one")
            lines[name] = _line(key)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
