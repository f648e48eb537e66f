"""Classifiers over HTTP, against a real server on loopback that fails in every way there is."""

import gzip
import logging
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import trustme
from pydantic import ValidationError

from cfx.classifiers import BlackBox, load_black_box
from cfx.classifiers.endpoint import Unavailable
from cfx.classifiers.json_endpoint import JsonConfig
from cfx.classifiers.kserve import KServeConfig, answer_in
from cfx.errors import UserError
from tests.servers import CLASSES, Moody, brightness
from warehouse.facts.query_ledger import BudgetSpent, QueryLedger

X = torch.rand(10, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
RIGHT = torch.from_numpy(brightness(((X + 1) / 2).numpy()))
SECRET = "s3cr3t-value"


def kserve(
    url: str, ledger: QueryLedger, secret: str | None = None, limits: dict[str, Any] | None = None, **more: Any
) -> BlackBox:
    limits = {"batch": 4, "timeout": 0.5, "patience": 20} | (limits or {})
    settings = {"access": "kserve", "url": url, "model": "brightness", "output": "p", "classes": CLASSES, "limits": limits} | more
    return load_black_box(KServeConfig.model_validate(settings), ledger, secret)


def plain_json(url: str, ledger: QueryLedger, **more: Any) -> BlackBox:
    settings = {
        "access": "json",
        "url": f"{url}/classify",
        "classes": CLASSES,
        "send": "numbers",
        "request": '{"instances": {{ images | tojson }}}',
        "response": "{{ reply.predictions | map(attribute='scores') | list | tojson }}",
        "limits": {"timeout": 0.5, "patience": 5},
    }
    return load_black_box(JsonConfig.model_validate(settings | more), ledger)


def memory(budget: int | None = None) -> QueryLedger:
    return QueryLedger(None, "brightness", budget)


@pytest.mark.parametrize("tensors", ["json", "binary"])
def test_json_and_binary_tensors_give_the_same_probabilities(tensors: str) -> None:
    with Moody() as server:
        p = kserve(server.url, memory(), tensors=tensors)(X).softmax(1)
    torch.testing.assert_close(p, RIGHT, atol=1e-6, rtol=0)


def test_a_plain_json_endpoint_is_described_by_two_templates() -> None:
    with Moody() as server:
        torch.testing.assert_close(plain_json(server.url, memory())(X).softmax(1), RIGHT, atol=1e-6, rtol=0)
        with pytest.raises(ValueError, match="template `response` cannot be filled in.*'predicted'"):
            plain_json(server.url, memory(), response="{{ reply.predicted[0] | tojson }}")(X)
        with pytest.raises(ValueError, match="does not make a list of numbers.*tojson"):
            plain_json(server.url, memory(), response="{{ reply.predictions }}")(X)
    with pytest.raises(ValidationError, match="not a Jinja template"):
        plain_json("http://127.0.0.1:1", memory(), request="{{ images")
    with pytest.raises(ValidationError, match="8-bit pixels"):
        plain_json("http://127.0.0.1:1", memory(), send="png", image={"mean": (0.5, 0.5, 0.5)})


def test_the_old_names_picture_and_pictures_still_work_with_a_warning() -> None:
    declared = {"std": (2.0, 2.0, 2.0)}
    with Moody() as server:
        new = plain_json(server.url, memory(), image=declared)(X)
        with pytest.warns(DeprecationWarning, match="`pictures` of `request` is now `images`"):
            template = plain_json(server.url, memory(), image=declared, request='{"instances": {{ pictures | tojson }}}')
        with pytest.warns(DeprecationWarning, match="`picture` is now `image`"):
            setting = plain_json(server.url, memory(), picture=declared)
        assert torch.equal(template(X), new) and torch.equal(setting(X), new)
    with pytest.raises(ValidationError, match="both are set"):
        plain_json("http://127.0.0.1:1", memory(), picture=declared, image=declared)


def test_a_server_in_trouble_is_queried_again_and_every_attempt_is_in_the_ledger() -> None:
    ledger = memory()
    with Moody([503, "hang up", 429, "hang"]) as server:
        p = kserve(server.url, ledger, limits={"concurrency": 1})(X).softmax(1)
        torch.testing.assert_close(p, RIGHT, atol=1e-6, rtol=0)
        calls = ledger.calls(0)
        assert calls["status"] == ["503", "broken off", "429", "timed out", "200", "200", "200"]
        assert calls["batch"] == [4, 4, 4, 4, 4, 4, 2]
        assert ledger.spent() == server.images == 26


def test_a_server_that_is_killed_and_started_again_is_waited_for() -> None:
    ledger = memory(budget=10)
    with Moody() as server:
        black_box, port = kserve(server.url, ledger), server.server_address[1]
        black_box(X[:2])
    done = threading.Event()

    def revive() -> None:
        with Moody(port=port):
            done.wait(20)

    later = threading.Timer(0.5, revive)
    later.start()
    p = black_box(X).softmax(1)
    done.set()
    later.join()
    torch.testing.assert_close(p, RIGHT, atol=1e-6, rtol=0)
    assert "not reached" in ledger.calls(0)["status"] or "broken off" in ledger.calls(0)["status"]


def test_a_server_that_stays_away_is_reported_and_costs_nothing() -> None:
    ledger = memory(budget=2)
    with Moody() as server:
        black_box = kserve(server.url, ledger, limits={"patience": 0.3})
    with pytest.raises(Unavailable, match=r"retried for 0.3 seconds \(`limits.patience`\).*what was answered is kept"):
        black_box(X[:2])
    assert set(ledger.calls(0)["status"]) == {"not reached"} and ledger.spent() == 0


@pytest.mark.parametrize("tensors", ["json", "binary"])
@pytest.mark.parametrize(
    ("mood", "words"),
    [
        (lambda p: p * np.float32("nan"), "NaN"),
        (lambda p: p[:, :1], r"shape \(4, 1\)"),
        (lambda p: p[:1], r"shape \(1, 2\) to 4 images"),
        (lambda p: p * 7, "not probabilities"),
        (404, "answered 404"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused_once_and_not_kept(mood: Any, words: str, tensors: str) -> None:
    ledger = memory()
    with Moody([mood]) as server:
        black_box = kserve(server.url, ledger, tensors=tensors, limits={"concurrency": 1})
        with pytest.raises(ValueError, match=words):
            black_box(X[:4])
        assert len(ledger.calls(0)["call"]) == 1
        torch.testing.assert_close(black_box(X[:4]).softmax(1), RIGHT[:4], atol=1e-6, rtol=0)  # well again: queried again


def test_the_budget_is_never_exceeded_and_answers_already_there_stay() -> None:
    ledger = memory(budget=8)
    with Moody() as server:
        black_box = kserve(server.url, ledger, limits={"concurrency": 1})
        with pytest.raises(BudgetSpent, match=f"{server.url}|brightness"):
            black_box(X)
        assert server.images == ledger.spent() == 8
        torch.testing.assert_close(black_box(X[:8]).softmax(1), RIGHT[:8], atol=1e-6, rtol=0)
        assert server.images == 8


def test_no_more_calls_at_a_time_than_allowed() -> None:
    with Moody() as server:
        server.pause = 0.05
        kserve(server.url, memory(), limits={"batch": 1, "concurrency": 3, "timeout": 5})(X)
        assert 2 <= server.concurrent <= 3


def test_the_secret_goes_into_the_header_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    auth = {"env": "MODEL_TOKEN"}
    with Moody([401]) as server:
        black_box = kserve(server.url, memory(), SECRET, auth=auth)
        with pytest.raises(ValueError, match=r"answered 401.*\*\*\*") as error:  # the server echoes it
            black_box(X[:2])
        assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"
        shown = f"{error.value!r}{caplog.text}{black_box.config.model_dump_json()}{vars(black_box)}"
        assert SECRET not in shown
        with pytest.raises(ValueError, match="environment variable MODEL_TOKEN is not set"):
            kserve(server.url, memory(), auth=auth)
    with pytest.raises(ValidationError, match="no name or password in an address") as refused:
        kserve(f"http://me:{SECRET}@127.0.0.1", memory())
    assert SECRET not in str(refused.value)


def test_certificates_are_verified(tmp_path: Path) -> None:
    authority = trustme.CA()
    with Moody() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http:", "https:")
        with pytest.raises(UserError, match="CERTIFICATE_VERIFY_FAILED.*`ca` names"):  # it is as bad the next time
            kserve(url, memory())
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        with pytest.raises(FileNotFoundError, match="nowhere.pem; `ca` is"):
            kserve(url, memory(), ca=tmp_path / "nowhere.pem")
        p = kserve(url, memory(), ca=tmp_path / "ca.pem")(X).softmax(1)
        torch.testing.assert_close(p, RIGHT, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>", "did not answer in JSON"),
        (b"[]", "answered a list"),
        (b'{"error": "busy"}', "answered no output 'p', but nothing"),
        (b'{"outputs": ["p"]}', "no list of tensors"),
        (b'{"outputs": [{"name": "p", "datatype": "BYTES", "shape": [1], "data": ["cat"]}]}', "answered p as BYTES"),
        (b'{"outputs": [{"name": "p", "datatype": "FP32", "shape": [2, 2], "data": [1, 0]}]}', "do not fit their shape"),
        (b'{"outputs": [{"name": "p", "datatype": "FP32", "shape": [1, 2]}]}', "do not fit their shape"),
    ],
)
def test_an_answer_outside_the_protocol_is_refused_by_name(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=f"http://model.*{words}"):
        answer_in(httpx.Response(200, content=content), "p", "http://model")


def test_a_model_without_such_an_output_is_refused_before_any_image_is_sent() -> None:
    with Moody() as server:
        with pytest.raises(ValueError, match="has no output 'q'; it has other, p"):
            kserve(server.url, memory(), output="q")
        with pytest.raises(ValueError, match="has outputs other, p; pick one with `output`"):
            kserve(server.url, memory(), output=None)
        assert server.images == 0


def test_an_image_can_be_sent_as_png_in_base64() -> None:
    with Moody() as server:
        p = plain_json(server.url, memory(), send="png")(X).softmax(1)
    torch.testing.assert_close(p, RIGHT, atol=1 / 255, rtol=0)  # rounded to 8 bits
    assert (p != RIGHT).any()


@contextmanager
def answering(*answers: Callable[[Any], None]) -> Iterator[str]:
    """The address of a server that answers its calls by writing what these functions write, one after another."""
    left = list(answers)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length"):
                    length = int(line.split(b":")[1])
            self.rfile.read(length)
            with suppress(OSError):
                left.pop(0)(self.wfile)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


ANSWER = b'{"predictions": [{"scores": [0.5, 0.5]}]}'
GOOD = f"HTTP/1.1 200 OK\r\nContent-Length: {len(ANSWER)}\r\n\r\n".encode() + ANSWER


def slowly(content: bytes) -> Callable[[Any], None]:
    def write(file: Any) -> None:
        for at in range(len(content)):
            file.write(content[at : at + 1])
            time.sleep(0.1)

    return write


@pytest.mark.parametrize("at_once", [0, 44], ids=["headers", "body"])
def test_an_answer_that_comes_a_byte_at_a_time_is_given_up_after_the_timeout(at_once: int) -> None:
    drip = b"HTTP/1.1 200 OK\r\nContent-Length:   999\r\n\r\n" + b" " * 40

    def write(file: Any) -> None:
        file.write(drip[:at_once])
        slowly(drip[at_once:])(file)

    ledger = memory()
    with answering(write, lambda file: file.write(GOOD)) as url:
        torch.testing.assert_close(plain_json(url, ledger)(X[:1]).softmax(1), torch.tensor([[0.5, 0.5]]))
    assert ledger.calls(0)["status"] == ["timed out", "200"]


def endlessly(file: Any) -> None:
    file.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        file.write(b"100000\r\n" + b" " * 2**20 + b"\r\n")


def packed(kind: str) -> Callable[[Any], None]:
    content = gzip.compress(bytes(2**28), 1)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
    return lambda file: file.write(head.encode() + content)


@pytest.mark.parametrize(
    ("write", "words"),
    [(endlessly, "more than 64 MiB"), (packed("gzip"), "more than 64 MiB"), (packed("br"), "packs its answers with 'br'")],
    ids=["endless", "gzip", "brotli"],
)
def test_an_answer_that_grows_without_bound_is_refused_once(write: Callable[[Any], None], words: str) -> None:
    ledger = memory()
    with answering(write) as url, pytest.raises(UserError, match=f"{url}.*{words}"):
        plain_json(url, ledger, limits={"timeout": 20})(X[:1])
    assert len(ledger.calls(0)["call"]) == 1


def test_a_server_that_says_when_to_come_back_is_waited_for_or_given_up_at_once() -> None:
    def busy(seconds: int) -> Callable[[Any], None]:
        head = f"HTTP/1.1 503 Busy\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\n\r\n"
        return lambda file: file.write(head.encode())

    ledger, started = memory(), time.monotonic()
    with answering(busy(1), lambda file: file.write(GOOD)) as url:
        plain_json(url, ledger)(X[:1])
    assert ledger.calls(0)["status"] == ["503", "200"] and time.monotonic() - started >= 1
    with answering(busy(3600)) as url, pytest.raises(Unavailable, match="answered 503"):
        plain_json(url, memory())(X[:1])


@pytest.mark.parametrize(
    ("response", "words"),
    [
        ("{{ reply.wrong | tojson }}", "no attribute 'wrong'"),
        ("{{ reply + 1 }}", "unsupported operand"),
        ("{{ reply.predictions | sum }}", "unsupported operand"),
    ],
)
def test_a_template_that_does_not_fit_the_answer_is_named_with_its_endpoint(response: str, words: str) -> None:
    ledger = memory()
    with Moody() as server, pytest.raises(UserError, match=f"{server.url}.*template `response`.*{words}.*predictions"):
        plain_json(server.url, ledger, response=response)(X[:2])
    assert len(ledger.calls(0)["call"]) == 1


def test_a_secret_in_an_address_is_refused_without_being_shown() -> None:
    with pytest.raises(ValidationError, match="send 'api_key' as a header") as refused:
        kserve(f"http://127.0.0.1:1?version=2&api_key={SECRET}", memory())
    assert SECRET not in str(refused.value)


def test_what_a_server_echoes_is_masked_before_it_is_cut() -> None:
    long = SECRET * 20  # the echo's first 200 characters end inside it
    with Moody([401]) as server, pytest.raises(UserError, match=r"answered 401.*\*\*\*$"):
        kserve(server.url, memory(), long, auth={"env": "MODEL_TOKEN"})(X[:2])


SCORES = "{{ reply.predictions | map(attribute='scores') | list | tojson }}"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"null", "'None' has no attribute 'predictions'"),
        (b"7", "has no attribute 'predictions'"),
        (b'"busy"', "has no attribute 'predictions'"),
        (b'{"predictions": null}', "makes a list of 0 answers to 1 images"),
        (b'{"predictions": [{"scores": null}]}', "makes null of the answer to image 1 of 1"),
        (b'{"predictions": [{"scores": "busy"}]}', 'makes "busy" of the answer to image 1 of 1'),
        (b'{"predictions": [{"scores": [[0.5, 0.5]]}]}', r"makes \[0.5, 0.5\] of the answer to image 1"),
        (b'{"predictions": [{"scores": [NaN, 0.5]}]}', "makes NaN of the answer to image 1"),
        (b'{"predictions": [{"scores": [1e999, 0.5]}]}', "makes Infinity of the answer to image 1"),
        (b'{"predictions": [{"scores": [1' + b"0" * 400 + b", 0]}]}", "makes 10{100,} of the answer to image 1"),
        (b'{"predictions": [{"scores": [1' + b"0" * 5000 + b", 0]}]}", "did not answer in JSON: .*4300 digits"),
        (b'{"predictions": [{"scores": [0.5, 0.5]}, {"scores": [1, 0]}]}', "makes a list of 2 answers to 1 images"),
        (b'{"predictions": []}', "makes a list of 0 answers to 1 images"),
        (b'{"predictions": [], "predictions": [{"scores": [1, 0]}]}', "'predictions' stands twice"),
        (b"[" * 100_000, "did not answer in JSON"),
        (b"\xff\xfe\x00", "did not answer in JSON"),
    ],
)
def test_a_reply_that_is_no_list_of_numbers_is_said_with_endpoint_and_template_and_costs_one_call(
    reply: bytes, words: str
) -> None:
    def write(file: Any) -> None:
        file.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(reply)}\r\n\r\n".encode() + reply)

    ledger = memory()
    with answering(write) as url, pytest.raises(UserError, match=f"{url}.*{words}") as raised:
        plain_json(url, ledger, response=SCORES)(X[:1])
    assert len(ledger.calls(0)["call"]) == 1 and (
        "JSON" in words or "twice" in words or "template `response`" in str(raised.value)
    )
    assert len(str(raised.value)) < 900


def test_answers_of_different_lengths_and_a_template_of_the_wrong_kind_are_said() -> None:
    with Moody() as server:
        for response, words in (
            ("[[1, 0], [1]]", "answers of 1 and 2 numbers"),
            ("7", "makes 7, which is no list"),
            ('{"a": 1}', "which is no list"),
            ("[[1, 0], 1]", "answers of 1 and 2 numbers"),
        ):
            with pytest.raises(UserError, match=f"{server.url}.*template `response`.*{words}"):
                plain_json(server.url, memory(), response=response)(X[:2])


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ('{"outputs": [{"name": "p", "datatype": ["FP32"], "shape": [1], "data": [1]}]}', "answered p as"),
        ('{"outputs": [{"name": "p", "datatype": "FP32", "shape": [1], "parameters": [], "data": 1}]}', None),
        ('{"outputs": [{"name": "p", "datatype": "FP32", "parameters": {"binary_data_size": "x"}}]}', "no number of bytes"),
        ('{"outputs": [{"name": "p", "datatype": "FP32", "parameters": {"binary_data_size": -4}}]}', "no number of bytes"),
        ('{"outputs": [{"name": "p", "datatype": "FP32", "shape": [1], "data": [1' + "0" * 400 + "]}]}", "do not fit"),
        ('{"outputs": [{"name": "p", "datatype": "FP32", "shape": [99999999999], "data": [1]}]}', "do not fit"),
        ('{"outputs": [{"name": "p", "datatype": "FP32", "shape": null, "data": [1]}]}', None),
        ('{"outputs": [{"name": "p"}], "outputs": []}', "'outputs' stands twice"),
        ("[" * 100_000, "did not answer in JSON"),
    ],
)
def test_an_answer_that_is_crafted_is_refused_or_read_and_no_defect(outputs: str, words: str | None) -> None:
    response = httpx.Response(200, content=outputs.encode())
    if words is None:
        assert answer_in(response, "p", "http://model").size == 1
    else:
        with pytest.raises(UserError, match=f"http://model.*{words}"):
            answer_in(response, "p", "http://model")
    for length in ("x", "-1", "999999999", "²"):
        with pytest.raises(UserError, match="http://model.*Content-Length says"):
            answer_in(
                httpx.Response(200, content=b"{}", headers={b"Inference-Header-Content-Length": length.encode()}),
                "p",
                "http://model",
            )
