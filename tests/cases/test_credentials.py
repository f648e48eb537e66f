"""Secrets stay out: refused in any setting, whatever it is called, and masked in whatever is said, whole and before it is cut."""

from __future__ import annotations

import base64
import http.server
import json
import logging
import os
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import torch
import yaml
from pydantic import ValidationError

from cfx.classifiers import load_black_box
from cfx.classifiers.endpoint import Auth
from cfx.classifiers.json_endpoint import JsonConfig
from cfx.classifiers.kserve import KServeConfig
from cfx.credentials import fault
from cfx.errors import ConfigError, UserCodeError, UserError
from cfx.masking import encodings, masked, scrub, scrubbed
from flows.config import load_config
from flows.settings import checked
from tasks.config import AuditConfig
from tests.cases.tiny import settings
from warehouse.facts.query_ledger import QueryLedger
from warehouse.facts.storage import warehouse_at

SECRET = "s3/cr+t&Value=8fZ2"
BAD = (
    f"s3://KEY:{SECRET}@bucket/x",
    "s3://KEY:123/Ab4cret@bucket/x",
    "tcp://me:hunter2@head:8786",
    "postgresql+psycopg2://me:hunter2@db/x",
    "https://hunter2token@host/x",
    "https://host/x?api_key=hunter2",
    "https://host/x?a=1&X-Amz-Signature=hunter2",
    "https://host/x#access_token=hunter2",
    "me:hunter2@host:6379",
    "AKIAHUNTER2HUNTER2AA",
    "Bearer hunter2hunter2hunter2",
)
GOOD = (
    "s3://bucket/a@b/c",
    "https://host:8443/v2?version=2&design=1&keyboard=us",
    "https://host/users/me%40x",
    "hf://datasets/org/name@main/x",
    "/data/me@host/x",
    "my_package.net:Net",
    "timm:resnet18.a1_in1k",
    "mailto:me@host.org",
    "sqlite:////data/mlflow.db",
    "a photo of a dog: its key, its token",
    "[::1]:8786",
    "tcp://[::1]:8786",
)


@pytest.mark.parametrize("text", BAD)
def test_a_secret_is_found_and_not_repeated(text: str) -> None:
    said = fault(text)
    assert said is not None and "hunter2" not in said.lower() and SECRET not in said and "Ab4cret" not in said


@pytest.mark.parametrize("text", GOOD)
def test_what_is_no_secret_is_none(text: str) -> None:
    assert fault(text) is None and masked(text) == text


def places() -> Iterator[tuple[str, ...]]:
    """Every setting of an audit, and every setting of its sections."""
    schema = AuditConfig.model_json_schema()
    for name, part in schema["properties"].items():
        yield (name,)
        inner = [part, *part.get("anyOf", ()), *part.get("oneOf", ())]
        for reference in {one["$ref"].rpartition("/")[2] for one in inner if "$ref" in one}:
            yield from ((name, key) for key in schema["$defs"][reference].get("properties", ()))


def test_every_setting_refuses_credentials_by_its_place_before_anything_else_is_said(tmp_path: Path) -> None:
    names = list(places())
    assert len(names) > 80 and ("data", "table") in names and ("classifier", "ca") in names and ("cluster",) in names
    for place in names:
        values: dict[str, Any] = settings(tmp_path) | {"nonsense": 1}
        values[place[0]] = BAD[0] if len(place) == 1 else {place[1]: BAD[0]}
        for written in (values, json.loads(json.dumps(values, default=str))):
            with pytest.raises(ConfigError, match=rf"^here: {'.'.join(place)}: no name or password") as refused:
                checked(AuditConfig, written, "here")
            assert SECRET not in str(refused.value)


@pytest.mark.parametrize("text", BAD)
def test_a_file_of_settings_and_a_program_refuse_it_alike(text: str, tmp_path: Path) -> None:
    values = json.loads(json.dumps(settings(tmp_path), default=str))
    values["oracle"] |= {"weights": text}  # a path, which would be made absolute
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=r"a.yaml: oracle.weights: ") as refused:
        load_config(tmp_path / "a.yaml")
    with pytest.raises(ValidationError, match=r"oracle.weights: ") as raised:
        AuditConfig.model_validate(values)
    for said in (str(refused.value), str(raised.value), repr(raised.value)):
        assert "hunter2" not in said.lower() and SECRET not in said


def test_a_warehouse_of_the_command_line_holds_no_credentials() -> None:
    with pytest.raises(UserError, match="no name or password in an address.*AWS_SECRET_ACCESS_KEY") as refused:
        warehouse_at(BAD[0])
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("pasted", ["hunter2", "ghp_hunter2hunter2hunter2", "Hunter-2/x", "AKIAHUNTER2HUNTER2AA", "HUNTER2" * 4])
def test_a_token_in_the_place_of_a_variables_name_is_refused_and_not_repeated(pasted: str, tmp_path: Path) -> None:
    endpoint = {"access": "kserve", "url": "http://127.0.0.1:1", "model": "m", "classes": ["a", "b"], "auth": {"env": pasted}}
    with pytest.raises(ConfigError, match="name of an environment variable|looks like") as refused:
        checked(AuditConfig, settings(tmp_path) | {"classifier": endpoint}, "here")
    with pytest.raises(ConfigError) as bare:
        checked(AuditConfig, settings(tmp_path) | {"classifier": endpoint | {"auth": pasted}}, "here")
    assert pasted not in str(refused.value) + str(bare.value)


def test_names_of_variables_are_taken_and_the_lower_case_ones_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Auth(env="MODEL_TOKEN").env == "MODEL_TOKEN"
    monkeypatch.setenv("model_token", "x")
    assert Auth(env="model_token").env == "model_token"
    for wrong in ({"header": "A: b"}, {"scheme": "Bearer abc"}, {"header": "A\nB"}):
        with pytest.raises(ValidationError):
            Auth.model_validate({"env": "MODEL_TOKEN"} | wrong)


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    return SECRET


def test_a_secret_is_masked_in_every_encoding(secret: str) -> None:
    forms = {
        quote(secret),
        quote_plus(secret),
        quote(secret, safe="").replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d"),
        secret.encode().hex(),
        base64.b64encode(secret.encode()).decode(),
        *(base64.b64encode(f"{user}:{secret}".encode()).decode() for user in ("a", "ab", "abc", "me@host")),
        json.dumps({"a": f"\n{secret}"}),
    }
    for form in {secret, *forms}:
        assert masked(f"said {form}!") != f"said {form}!"
    for form in forms - {secret}:
        assert not any(one in masked(f"said {form}!") for one in encodings(secret))
    assert masked("a plain word stays") == "a plain word stays"


def test_what_is_known_comes_from_the_environment_and_awss_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("A_DATABASE", "postgresql://me:pass/w0rd@db/x")
    monkeypatch.setenv("A_KEYBOARD", "qwertyuiop")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "disabled-for-now")
    monkeypatch.setenv("A_TOKEN_FILE", "/run/secrets/token")
    (tmp_path / "credentials").write_text("[x]\naws_secret_access_key = in/the+file9\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    assert masked("pass/w0rd in/the+file9") == "*** ***"
    kept = "qwertyuiop disabled-for-now /run/secrets/token"
    assert masked(kept) == kept


def test_an_error_is_scrubbed_with_its_causes_its_notes_and_its_trace(secret: str) -> None:
    def failing() -> None:
        try:
            raise OSError(5, f"of {secret}", f"/x/{secret}")
        except OSError as error:
            error.add_note(f"noted {secret}")
            raise UserCodeError(f"m raised {secret}", f"trace {secret}") from error

    with pytest.raises(UserCodeError, match=r"m raised \*\*\*") as raised, scrubbed():
        failing()
    said = "".join(traceback.format_exception(raised.value)) + raised.value.trace + repr(vars(raised.value))
    assert SECRET not in said and said.count("***") >= 4

    class Stubborn(Exception):
        def __str__(self) -> str:
            return f"I say {os.environ['SOME_API_KEY']}"

    assert str(scrub(Stubborn())) == "Stubborn: I say ***"
    group = ExceptionGroup("both", [ValueError(secret), KeyError((secret, 1))])
    assert secret not in "".join(traceback.format_exception(scrub(group))).replace(str(Path(__file__)), "")


def test_every_log_record_is_masked(secret: str, caplog: pytest.LogCaptureFixture) -> None:
    with scrubbed():
        try:
            raise ValueError(f"in {secret}")
        except ValueError:
            logging.getLogger("anything.at.all").exception("about %s and %d", secret, 1)
    assert "about *** and 1" in caplog.text and "ValueError: in ***" in caplog.text and secret not in caplog.text


class Echo(http.server.BaseHTTPRequestHandler):
    """Says what it was sent, in the way that its path asks for."""

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        tensors = {"inputs": [{"name": "x"}], "outputs": [{"name": f"p {self.headers['Authorization']}"}]}
        self.answer(200, json.dumps(tensors).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        sent = self.headers["Authorization"] or ""
        echoes = {
            "plain": (401, f"{'x' * 190}{sent}".encode()),
            "base64": (403, base64.b64encode(sent.encode())),
            "quoted": (500, quote(sent, safe="").encode()),
            "reply": (200, json.dumps({"you": sent, "pad": "x" * 30}).encode()),
            "twice": (200, json.dumps({"pad": "x" * 50})[:-1].encode() + f', "{sent}": 1, "{sent}": 2}}'.encode()),
            "broken": (200, f"{sent}{{".encode()),
        }
        self.answer(*echoes[self.path.strip("/")])

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("how", ["plain", "base64", "quoted", "reply", "twice", "broken"])
def test_what_an_endpoint_echoes_is_masked_in_every_form_and_before_it_is_cut(echo: str, how: str) -> None:
    config = JsonConfig.model_validate(
        {
            "access": "json",
            "url": f"{echo}/{how}",
            "classes": ["a", "b"],
            "send": "numbers",
            "request": "{{ images | tojson }}",
            "response": "{{ reply.you | tojson }}",
            "auth": {"env": "MODEL_TOKEN"},
            "limits": {"patience": 0},
        }
    )
    with pytest.raises((UserError, OSError)) as raised:
        load_black_box(config, QueryLedger(None, "echo", None), SECRET)(torch.zeros(1, 3, 2, 2))
    said = "".join(traceback.format_exception(raised.value))
    for form in {SECRET, SECRET[:8], *encodings(SECRET)}:
        assert form not in said, form
    assert echo in str(raised.value)


def test_nor_does_what_it_says_of_its_model_repeat_it(echo: str) -> None:
    declared = {
        "access": "kserve",
        "url": echo,
        "model": "m",
        "output": "q",
        "classes": ["a", "b"],
        "auth": {"env": "MODEL_TOKEN"},
    }
    with pytest.raises(UserError, match=r"has no output 'q'; it has p Bearer \*\*\*"):
        load_black_box(KServeConfig.model_validate(declared), QueryLedger(None, "echo", None), SECRET)


@pytest.mark.parametrize("part", ["sk-", "x://a:", "?token", "eyJaaaaaaaaa", '"api_key":', "Bearer a", "a@"])
def test_a_long_text_is_searched_in_time_that_grows_with_its_length(part: str) -> None:
    began = time.process_time()
    fault(part * (2**18 // len(part)))
    masked(part * (2**18 // len(part)))
    assert time.process_time() - began < 2  # of a second or two hundred, where time grows with the square
