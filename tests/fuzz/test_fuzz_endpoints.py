"""Any answer of an endpoint, over a real connection: probabilities, or a refusal that names the address."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from cfx.classifiers import load_black_box
from cfx.classifiers.endpoint import Unavailable
from cfx.classifiers.json_endpoint import JsonConfig
from cfx.classifiers.kserve import KServeConfig
from tests.fuzz.bounds import answer, examples
from tests.fuzz.mutation import mutated
from warehouse.facts.query_ledger import QueryLedger

X = torch.zeros(2, 3, 4, 4)
CLASSES = ("low", "high")
ROWS = [[0.25, 0.75], [0.5, 0.5]]
LENGTH = "Inference-Header-Content-Length"
METADATA = {"inputs": [{"name": "image"}], "outputs": [{"name": "p"}]}
TENSOR = {"name": "p", "shape": [2, 2], "datatype": "FP32", "data": [0.25, 0.75, 0.5, 0.5]}


class Parrot(socketserver.ThreadingTCPServer):
    """Says `says` to whatever it is sent: bytes of HTTP, one call a connection."""

    daemon_threads, allow_reuse_address = True, True
    says = b""
    metadata = b""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Call)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Call(socketserver.StreamRequestHandler):
    server: Parrot

    def handle(self) -> None:
        first, length = self.rfile.readline(), 0
        while (line := self.rfile.readline()).strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        self.rfile.read(length)
        self.wfile.write(self.server.metadata if first.startswith(b"GET") else self.server.says)


@pytest.fixture(scope="module")
def parrot() -> Iterator[Parrot]:
    with Parrot() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


def http(body: bytes, status: bytes = b"200 OK", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), b"Connection: close", *headers, b"", body]
    return b"\r\n".join(lines)


def dumped(value: object) -> bytes:
    return json.dumps(value).encode()


def holds_for(parrot: Parrot, config: Any) -> None:
    """A call gives log-probabilities, or a refusal."""

    def call() -> torch.Tensor | None:
        try:
            return load_black_box(config, QueryLedger(None, "parrot", None))(X)
        except Unavailable as error:  # worth another try, which a person decides
            assert parrot.url in str(error)
            return None

    found = answer(call, parrot.url, mib=256, seconds=20)
    if found is not None:
        assert found.shape == (2, 2) and found.dtype == torch.float32 and bool(found.isfinite().all())
        assert np.allclose(found.exp().sum(1), 1, atol=1e-5)


LIMITS = {"timeout": 2, "patience": 0.01, "batch": 2}
numbers = st.one_of(st.floats(), st.integers(-3, 3), st.sampled_from([2**63, 10**400, 1e308, -0.0]))
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=4), st.just("0.5")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=6,
)
BODIES = [b"", b"\xef\xbb\xbf{}", b"[" * 100_000, b"1" * 5000, b"NaN", b'"\\ud800"', b"\xff\xfe{\0}\0", b"null", b"{}", b"<html>"]
STATUSES = [b"200 OK", b"204 No Content", b"301 Moved", b"400 Bad", b"401 No", b"503 Busy", b"999 ?", b"200"]
HEADERS = [b"Location: file:///etc/passwd", b"Retry-After: 99999999999999999999", b"Retry-After: Fri, 99 Foo", 
           b"Content-Encoding: gzip",
           b"Content-Encoding: deflate", b"Content-Type: \xff", b"Transfer-Encoding: chunked", LENGTH.encode() + b": x",
           LENGTH.encode() + b": -5", LENGTH.encode() + b": 99999999999", 
           b"Set-Cookie: " + b"a" * 60_000, b"no colon"]  # fmt: skip
bodies = st.one_of(anything.map(dumped), st.sampled_from(BODIES), st.binary(max_size=40))
wires = st.one_of(
    st.builds(
        lambda body, status, header: http(body, status, header), bodies, st.sampled_from(STATUSES), st.sampled_from(HEADERS)
    ),
    mutated(http(dumped({"p": ROWS}))),
    st.binary(max_size=60),
)


def test_any_answer_of_a_plain_json_endpoint_is_read_or_refused(parrot: Parrot) -> None:
    settings = {"access": "json", "url": f"{parrot.url}/x", "classes": CLASSES, "request": "[]", "limits": LIMITS}
    config = JsonConfig.model_validate(settings | {"response": "{{ reply.p | tojson }}"})
    rows = st.lists(st.one_of(st.lists(numbers, max_size=3), anything), max_size=3)

    @examples(10, 2000)
    @given(st.one_of(st.one_of(rows, anything).map(lambda p: http(dumped({"p": p}))), bodies.map(http), wires))
    @example(http(dumped({"p": ROWS})))
    @example(http(b'{"p": [[NaN, 1], [0, 1]]}'))
    @example(http(b'{"p": ' + b"[" * 9999 + b"]" * 9999 + b"}"))
    @example(http(dumped({"p": "x" * 10**6})))
    def holds(says: bytes) -> None:
        parrot.says = says
        holds_for(parrot, config)

    holds()


def test_any_answer_of_a_kserve_endpoint_is_read_or_refused(parrot: Parrot) -> None:
    settings = {"access": "kserve", "url": parrot.url, "model": "m", "classes": CLASSES, "limits": LIMITS}
    config = KServeConfig.model_validate(settings)
    fields = st.dictionaries(st.sampled_from([*TENSOR, "parameters"]), st.one_of(anything, st.just({"binary_data_size": 16})))
    tensors = st.one_of(fields.map(lambda other: {"outputs": [TENSOR | other]}), anything.map(lambda x: {"outputs": x}), anything)
    sizes: st.SearchStrategy[Any] = st.one_of(st.integers(-(2**70), 2**70), st.sampled_from([16, "16", None, [], 1.5, True]))
    raw = st.builds(
        lambda size, at, tail: http(body := dumped({"outputs": [TENSOR | {"parameters": {"binary_data_size": size}}]}) + tail,
                                    b"200 OK", b"%s: %d" % (LENGTH.encode(), len(body) - len(tail) + at)),
        sizes, st.integers(-2, 2), st.binary(max_size=20),
    )  # fmt: skip

    @examples(13, 2000)
    @given(
        st.one_of(tensors.map(dumped).map(http), raw, wires, mutated(http(dumped({"outputs": [TENSOR]})))),
        st.one_of(st.just(http(dumped(METADATA))), anything.map(lambda x: http(dumped(METADATA | {"inputs": x}))), wires),
    )
    @example(http(dumped({"outputs": [TENSOR]})), http(dumped(METADATA)))
    def holds(says: bytes, metadata: bytes) -> None:
        parrot.says, parrot.metadata = says, metadata
        holds_for(parrot, config)

    holds()
