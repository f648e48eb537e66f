"""Any text for a configuration, and any value for a setting: the same settings on every reading, or one line that names them."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from cfx.errors import ConfigError
from cfx.yaml_reading import read
from flows.config import load_config
from flows.paths import absolute
from flows.settings import checked
from tasks.config import AuditConfig
from tests.fuzz.bounds import answer, examples
from tests.fuzz.mutation import mutated

WHOLE: dict[str, Any] = {
    "name": "trial",
    "warehouse": "facts",
    "data": {"images": "data/images", "table": "data/table.csv", "label_column": "label", "size": 64, "limit": {"first": 8}},
    "classifier": {"weights": "net.safetensors", "module": "torchvision:resnet18", "classes": ["a", "b"], "mean": [0.5] * 3},
    "judge": {"access": "kserve", "url": "https://localhost/x", "model": "m", "classes": ["a", "b"], "limits": {"batch": 4}},
    "oracle": {"weights": "oracle.safetensors", "attributes": ["hat", "tie"]},
    "prior": {"path": "portraits:prior"},
    "ladder": [{"method": "dime", "tau": 5}],
    "seeds": [0, 1],
    "interventions": {},
    "saliency": {"maps": [{"map": "rollout"}]},
    "measures": {"cout": True},
    "margin": 0.1,
    "gate": {"forbidden": ["hat"], "maximum_effect": 0.2},
    "labels": {"a": "an a"},
    "hierarchy": {"a": ["root"], "b": ["root"]},
    "target": "opposite",
    "shard_size": 8,
    "device": "cpu",
}  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, -(10**30), 0.1, -0.0, 1e308, 1e-320, math.inf, -math.inf, math.nan,
    "", " ", "a" * 100_000, "\x1b[31m", "‮txt", "../../etc/passwd", "/dev/zero", "/", "s3://a:b/c@d", "http://[", "file:///x",
    "os:system", "__import__:x", "{{ 1 / 0 }}", "$HOME", "$NOT_SET", "~", "\0", "s3://bucket/prefix", "gopher://x", "~nobody",
    "auto", "opposite", "portraits:nothing", "imagenet", "a\nb",
    "2020-01-01", datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1), b"bytes", [], {}, [[]], [{}], {"a": {}}, [None],
    {"method": "dime"}, {"method": None}, {"first": 1}, {"nightly": 2}, {"weights": "x"}, {"access": "torch"}, {"access": []},
    {"access": "json", "url": "http://x", "request": "{{", "response": "x", "classes": ["a", "b"]}, ["a", "a"], [1] * 1000,
    ["c"] * 1000, {1: 2}, {"": ""}, [["a", "b"]] * 3, [math.nan], [[[[[[]]]]]], {"a": {"b": {"c": {"d": {}}}}},
]  # fmt: skip
SIGNS = "{}[]:,&*!|>'\"%@`#?-<~\n\t \\0123e+.xyn"


def places(value: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Where every setting of a configuration is, those that hold others too."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return ([at] if at else []) + [place for key, inner in below for place in places(inner, (*at, key))]


def with_other(place: tuple[object, ...], other: object) -> dict[str, Any]:
    """The whole configuration with another value in this place."""

    def changed(value: Any, at: tuple[Any, ...]) -> Any:
        if not at:
            return other
        copy = value.copy()
        copy[at[0]] = changed(value[at[0]], at[1:])
        return copy

    found: dict[str, Any] = changed(WHOLE, place)
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configuration") / "trial.yaml"


def holds_for(load: Callable[[], AuditConfig], path: Path) -> AuditConfig | None:
    """The settings, the same as kept among the facts and read again; or None where each line of the refusal names the file."""

    def checked_lines() -> AuditConfig:
        try:
            return load()
        except ConfigError as error:
            assert all(line.startswith(f"{path}: ") for line in str(error).splitlines()), error
            assert len(str(error)) < 10_000
            raise

    found = answer(checked_lines, path, mib=128)
    if found is not None:
        assert AuditConfig.model_validate_json(found.model_dump_json()).result_hash("code") == found.result_hash("code")
    return found


def test_a_setting_of_any_value_is_kept_as_it_is_or_refused_by_its_file(path: Path) -> None:
    path.write_text(yaml.safe_dump(WHOLE))
    assert holds_for(lambda: load_config(path), path) is not None
    anything = st.recursive(
        st.one_of(st.sampled_from(VALUES), st.text(), st.integers(), st.floats(), st.dates(), st.binary(max_size=4)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text() | st.integers(), inner, max_size=3)),
        max_leaves=5,
    )  # fmt: skip

    @examples(26, 5000)
    @given(st.sampled_from(places(WHOLE)), st.one_of(st.sampled_from(VALUES), anything))
    def holds(place: tuple[object, ...], value: object) -> None:
        values = with_other(place, value)

        def load() -> AuditConfig:
            try:
                return checked(AuditConfig, absolute(AuditConfig, values, path.parent), str(path))
            except ConfigError as error:  # as `settings_in` does
                raise ConfigError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None

        holds_for(load, path)

    holds()


def test_text_of_any_kind_is_settings_or_refused(path: Path) -> None:
    text = yaml.safe_dump(WHOLE).encode()

    @examples(20, 4000)
    @given(st.one_of(mutated(text), st.text(SIGNS, max_size=60).map(str.encode), st.binary(max_size=60)))
    @example(b"[" * 100_000)
    @example(b"- " * 50_000)
    @example(b"{a: " * 3000 + b"}" * 3000)
    @example(b"a: &a [*a]")
    @example(b"a: &a {b: *a}")
    @example(b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10) if n else b"x") for n in range(12)))
    @example(b"? [a]\n: b")
    @example(b"? {a: b}\n: c")
    @example(b"!!python/object/apply:os.system [id]")
    @example(b"!!binary =")
    @example(b"!!timestamp 2020-99-99")
    @example(b"a: 2020-02-31")
    @example(b"a: 1" + b"0" * 5000)
    @example(b"a: 0x" + b"f" * 100_000)
    @example(b"a: 1e9999999999")
    @example(b"a: !!int x")
    @example(b"a: !!float x")
    @example(b"a: !!set {x, y}")
    @example(b"a: !!omap [x]")
    @example(b"<<: 1")
    @example(b"<<: [1]")
    @example(b"a: ._")
    @example(b"a: 0b")
    @example(b"a: 0x_")
    @example(b"a: +_")
    @example(b"--- a\n--- b\n")
    @example(b"\xff\xfea\0:\0 \x001\0")
    def holds(content: bytes) -> None:
        path.write_bytes(content)
        holds_for(lambda: load_config(path), path)
        answer(lambda: read(path), path, mib=128)

    holds()
