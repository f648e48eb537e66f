"""Any bytes for a file of weights: what is read is what safetensors and torch read; nothing is run."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from cfx.checkpoint import load_weights, read_facts, read_state_dict
from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.networks.convnet import ConvNet
from cfx.weights_file import read_content
from tests.fuzz.bounds import answer, examples
from tests.fuzz.mutation import mutated

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([0.5, -0.5]), "half": torch.ones(4).half()}
DTYPES = ("F32", "F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "F4", "C64", "X", "")
LENGTHS = [0, 1, 7, 2**20, 99_999_999, 10**8, 2**31, 2**63, 2**64 - 1]
FACTS: dict[str, Any] = {
    "module": "cfx.networks.convnet:ConvNet",
    "kwargs": {"outputs": 2, "widths": [4, 8], "grid": 1},
    "classes": ["no", "yes"],
    "input_size": 16,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "crop": 1.0,
    "channels": 3,
}
NETWORK = dict(ConvNet(2, (4, 8), 1).state_dict())


def described_by(facts: object) -> bytes:
    """A network of cfx's own in its file, with these facts or this text beside it."""
    return safetensors.torch.save(NETWORK, metadata={"cfx": facts if isinstance(facts, str) else json.dumps(facts)})


def header(described: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with this header, which may say another length."""
    text = described if isinstance(described, bytes) else json.dumps(described).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights") / "net.pt"


def read(path: Path, content: bytes) -> object:
    """What is in it, or None where it is refused; every other way to read it holds as well."""
    path.write_bytes(content)
    network = nn.Linear(3, 2)
    answer(lambda: load_weights(network, path, "a linear layer"), path)
    answer(lambda: read_facts(path), path)
    answer(lambda: read_state_dict(path), path)
    return answer(lambda: read_content(path), path)


def same(found: Tensor, expected: Tensor) -> bool:
    return found.dtype == expected.dtype and found.shape == expected.shape and _bytes(found) == _bytes(expected)


def _bytes(value: Tensor) -> bytes:
    return bytes(value.contiguous().reshape(-1).view(torch.uint8).numpy()) if value.numel() else b""


numbers: st.SearchStrategy[Any] = st.one_of(
    st.integers(-3, 40), st.sampled_from([2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**30, -1, 1.5, None, "4", [], True])
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.one_of(st.sampled_from(DTYPES), numbers),
        "shape": st.one_of(st.lists(numbers, max_size=6), numbers),
        "data_offsets": st.one_of(st.lists(numbers, max_size=3), numbers),
        "more": st.just(1),
    },
)
whole = st.integers(0, 4).map(lambda n: {"dtype": "F32", "shape": [n], "data_offsets": [0, 4 * n]})
names = st.one_of(st.sampled_from(["weight", "bias", "__metadata__", ""]), st.text(max_size=4))
headers = st.dictionaries(names, st.one_of(tensors, whole, st.none()), max_size=4)
hostile = st.one_of(
    st.builds(header, headers, st.binary(max_size=64)),
    st.builds(header, headers, st.binary(max_size=64), st.sampled_from(LENGTHS)),
    mutated(safetensors.torch.save(STATE, metadata={"cfx": "{}"}), range(120)),
)


def test_a_hostile_safetensors_file_is_what_safetensors_reads_or_refused(path: Path) -> None:
    @examples(20, 5000)
    @given(hostile)
    @example(header(b"{" * 100_000))
    @example(header(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"))
    def holds(content: bytes) -> None:
        found = read(path, content)
        if found is not None:
            expected = safetensors.torch.load(content)
            assert isinstance(found, dict) and found.keys() == expected.keys()
            assert all(same(found[name], value) for name, value in expected.items())

    holds()


values = st.recursive(
    st.one_of(numbers, st.text(max_size=5), st.just("os:system"), st.just("nan"), st.floats()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)
shapes = st.dictionaries(st.sampled_from(["size", "patch", "width", "heads", "blocks"]), st.one_of(numbers, st.lists(numbers)))
arguments = st.fixed_dictionaries(
    {"outputs": numbers}, optional={"widths": st.lists(numbers, max_size=3), "grid": numbers, "shape": shapes, "other": values}
)
facts = st.one_of(
    st.dictionaries(st.sampled_from([*FACTS, "squeezes", "published_size"]), values, max_size=2).map(lambda other: FACTS | other),
    st.builds(lambda module, made: FACTS | {"module": f"cfx.networks.{module}", "kwargs": made},
              st.sampled_from(["convnet:ConvNet", "hit:HiT", "vit:vit"]), arguments),
    st.one_of(values, st.text(max_size=8)),
)  # fmt: skip


def test_facts_beside_weights_make_the_network_of_these_weights_or_are_refused(path: Path) -> None:
    @examples(20, 3000)
    @given(facts.map(described_by))
    @example(described_by("[" * 100_000 + "]" * 100_000))
    @example(described_by("9" * 5000))
    @example(described_by(FACTS | {"module": 5}))
    @example(described_by(FACTS | {"kwargs": {"outputs": 2, "widths": [10**9, 10**9]}}))
    @example(described_by(FACTS | {"kwargs": {"outputs": 2, "widths": [4, 8], "grid": 10**6}}))
    @example(described_by(FACTS | {"module": "cfx.networks.hit:HiT", "kwargs": {"outputs": 2, "shape": {"blocks": [10**9]}}}))
    @example(described_by(FACTS | {"input_size": 10**9}))
    def holds(content: bytes) -> None:
        path.write_bytes(content)
        config = ClassifierConfig(weights=path)
        found = answer(lambda: load_classifier(config), path)
        if found is not None:
            assert len(found.classes) == 2 and all(map(same, found.network.module.state_dict().values(), NETWORK.values()))

    holds()


def saved(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def rezipped(content: bytes, name: str, change: bytes) -> bytes:
    """The zip of torch.save with another content of one member, its sums in order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for member in old.namelist():
            new.writestr(member, change if member.endswith(name) else old.read(member))
    return buffer.getvalue()


ZIP = saved({"state_dict": STATE, "epoch": 3})
LEGACY = saved(STATE, _use_new_zipfile_serialization=False)
ARRAYS = pickle.dumps({"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)})
with zipfile.ZipFile(io.BytesIO(ZIP)) as archive:
    PICKLE = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
HEADS = [b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95", b"{", b"\x08\0\0\0\0\0\0\0{", LEGACY[:60]]
FILES = {
    "zip": mutated(ZIP),
    "pickle in a zip": mutated(PICKLE).map(lambda content: rezipped(ZIP, "data.pkl", content)),
    "before 1.6": mutated(LEGACY),
    "arrays": mutated(ARRAYS),
    "noise": st.builds(lambda head, noise: head + noise, st.sampled_from(HEADS), st.binary(max_size=80)),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_mutated_checkpoint_holds_tensors_or_is_refused(path: Path, kind: str) -> None:
    @examples(6, 1500)
    @given(FILES[kind])
    def holds(content: bytes) -> None:
        read(path, content)

    holds()


def test_mappings_that_hold_themselves_are_refused(path: Path) -> None:
    circle: dict[str, object] = {}
    circle[""] = circle
    assert isinstance(read(path, saved(circle)), dict)
    assert answer(lambda: read_state_dict(path), path) is None
