"""What audits leave behind, every byte of it, holds no secret: real processes, a real endpoint that echoes its token, a real S3
server, Prefect's own database; one audit that succeeds, and some that fail.

Searched are facts decoded from Parquet, rows of databases (and their write-ahead logs), members of archives, and raw bytes, for
each secret, its beginning and its encodings.
"""

from __future__ import annotations

import base64
import html
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from benchmarks.toy_audit import lay_out, settings, write_settings
from tests.servers import Moody

SECRETS = {
    "token": "tok/en+Qm9i&8fZ2w=x",  # of the endpoint, in a header
    "s3": "sEcr/et+S3kQ8w2Zr7Ly",
    "api key": "urlKey5fQ8tZr2",  # in an address of a settings file, which is refused
    "password": "pa55/w0rd;of&me",  # in an address of the environment, and of a settings file
}
REPOSITORY = Path(__file__).parents[2]
BEGINNING = 9  # characters: what is left of a secret that was cut before it was masked


def needles(secret: str) -> set[bytes]:
    """How it may be written, found out here and not by the code under test."""
    texts = {secret[:BEGINNING], quote(secret, safe=""), quote(secret), quote_plus(secret), html.escape(secret)}
    texts |= {json.dumps(secret)[1:-1], secret.encode().hex(), base64.b64encode(secret.encode()).decode().rstrip("=")}
    for before in ("me:", "user:", "Bearer "):  # within base64 only its inside is the same
        texts.add(base64.b64encode((before + secret).encode()).decode()[(len(before) * 8 + 5) // 6 + 1 :].rstrip("=")[:-1])
    return {text.encode() for text in texts}


def contents(path: Path, data: bytes) -> Iterator[tuple[str, bytes]]:
    """A file as it is, and what is packed in it."""
    yield str(path), data
    if data.startswith(b"PAR1"):
        table = pq.read_table(pa.BufferReader(data))
        yield f"{path}, decoded", repr(table.to_pylist()).encode() + repr(table.schema.metadata).encode()
    elif data.startswith(b"SQLite format 3"):
        with closing(sqlite3.connect(path)) as database:
            yield f"{path}, its rows", "\n".join(database.iterdump()).encode()
    elif data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield from contents(path / name, archive.read(name))


def leaks(folder: Path) -> list[str]:
    """Where a secret is found."""
    wanted = {what: needles(secret) for what, secret in SECRETS.items()}
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            for place, data in contents(path, path.read_bytes()):
                found += [f"{what} in {place}" for what, forms in wanted.items() if any(form in data for form in forms)]
    return found


def test_the_search_finds_a_leak_however_it_is_packed(tmp_path: Path) -> None:
    token = SECRETS["token"]
    pq.write_table(pa.table({"reason": [f"said {token}"] * 1000}), tmp_path / "a.parquet", compression="zstd")
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.parquet", "facts/a.parquet")
        archive.writestr("c.html", html.escape(token) * 10)
    database = sqlite3.connect(tmp_path / "d.db", isolation_level=None)
    database.execute("pragma journal_mode=wal")
    database.execute("create table logs (message text)")
    database.execute("insert into logs values (?)", (f"cut in {token[:BEGINNING]}",))
    (tmp_path / "e.txt").write_text(base64.b64encode(f"user:{token}".encode()).decode())
    (tmp_path / "f.json").write_text(json.dumps({"url": f"https://host/?x={quote(token, safe='')}"}))
    (tmp_path / "g.txt").write_text("nothing here")
    places = leaks(tmp_path)
    database.close()
    assert not any("g.txt" in place for place in places)
    assert {place.rpartition("/")[2] for place in places} >= {
        "a.parquet, decoded",
        "c.html",
        "d.db, its rows",
        "d.db-wal",
        "e.txt",
        "f.json",
    }
    assert sum("a.parquet, decoded" in place for place in places) == 2  # in the archive, too


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[Any, dict[str, str]]]:
    """A client of a real S3 server with a bucket, and the environment by which another process reaches it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    access = {"AWS_ACCESS_KEY_ID": "cfx", "AWS_SECRET_ACCESS_KEY": SECRETS["s3"], "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (access | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="audits")
        yield client, access | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}
        client.close()
    server.stop()


OWN = """
import os

def answers(images):
    raise RuntimeError(f"cannot log in as {os.environ['MODEL_LOGIN']} with {os.environ['MODEL_TOKEN']}")
"""


@pytest.mark.slow
@pytest.mark.long
def test_nothing_that_audits_leave_holds_a_secret(tmp_path: Path, s3: tuple[Any, dict[str, str]]) -> None:
    client, access = s3
    left, home = tmp_path / "left", tmp_path / "home"
    lay_out(home, 12)
    (home / "own_model.py").write_text(OWN)
    for name in ("tmp", "user", "prefect", "cache", "said"):
        (left / name).mkdir(parents=True)
    environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ} | {
        "HOME": str(left / "user"),
        "TMPDIR": str(left / "tmp"),
        "XDG_CACHE_HOME": str(left / "cache"),
        "PREFECT_HOME": str(left / "prefect"),
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "cfx,httpx,httpcore,botocore,fsspec,s3fs,mlflow",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",
        "MODEL_TOKEN": f"{SECRETS['token']}\n",
        "MODEL_LOGIN": f"https://me:{SECRETS['password']}@host",
        "MLFLOW_TRACKING_URI": f"http://me:{SECRETS['password']}@127.0.0.1:1",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }

    def cfx(number: str, *words: str) -> int:
        """A command of a process of its own; what it prints is left, too."""
        with (left / "said" / f"{number}.out").open("wb") as out, (left / "said" / f"{number}.err").open("wb") as err:
            command = [sys.executable, "-m", "flows.cli", *words]
            more = {"PYTHONPATH": str(REPOSITORY)}
            return subprocess.run(
                command, cwd=home, env=environment | access | more, stdout=out, stderr=err, timeout=600
            ).returncode

    def said(number: str) -> str:
        return (left / "said" / f"{number}.out").read_text() + (left / "said" / f"{number}.err").read_text()

    def written(name: str, classifier: dict[str, Any], **more: Any) -> str:
        common = {"classes": ["not_smiling", "smiling"], "limits": {"patience": 1, "timeout": 5}}
        without = {"prior": None, "oracle": None, "target_attribute": None, "name": name}
        made = settings(home, 6, classifier=common | classifier, **without | more)
        made.pop("interventions")
        return str(write_settings(home, made, f"{name}.yaml"))

    token = {"auth": {"env": "MODEL_TOKEN"}}
    with Moody() as server:
        kserve = {"access": "kserve", "url": server.url, "model": "brightness", "output": "p"} | token
        bucket = {"warehouse": "s3://audits/w"}
        assert cfx("good", "audit", written("good", kserve, **bucket, publish={"mlflow": {"archive": False}})) == 0, said("good")
        server.moods = [401] * 50
        assert cfx("refused", "audit", written("refused", kserve, **bucket)) != 0
        assert "answered 401: in no mood; you said Bearer ***" in said("refused")
        server.moods = []
        plain: dict[str, Any] = {
            "access": "json",
            "url": f"{server.url}/classify",
            "send": "numbers",
            "response": "{{ reply.none | tojson }}",
        }
        plain = plain | {"request": '{"instances": {{ images | tojson }}}'} | token
        assert cfx("template", "audit", written("template", plain)) != 0
        keyed = f"{server.url}/classify?api_key={SECRETS['api key']}"
        assert cfx("url", "audit", written("url", plain | {"url": keyed})) == 2 and "api_key" in said("url")
        placed = f"s3://cfx:{SECRETS['s3']}@audits/w"
        assert cfx("place", "audit", written("place", plain, warehouse=placed)) == 2 and "no name or password" in said("place")
        assert cfx("option", "runs", "-w", placed) == 2 and "no name or password" in said("option")
        pasted = written("pasted", plain | {"auth": {"env": SECRETS["api key"]}})
        assert cfx("pasted", "audit", pasted) == 2 and "name of an environment variable" in said("pasted")
    assert cfx("own", "audit", written("own", {"access": "callable", "module": "own_model:answers"})) == 2
    assert "cannot log in as https://***@host with ***" in said("own")
    assert cfx("export", "export", "good", "-w", "s3://audits/w", "--out", str(left / "good.zip")) == 0, said("export")
    assert cfx("report", "report", "good", "-w", "s3://audits/w") == 0, said("report")
    assert cfx("gate", "gate", "good", "-w", "s3://audits/w", "--junit", str(left / "gate.xml")) in (0, 1, 3), said("gate")
    for item in client.list_objects_v2(Bucket="audits")["Contents"]:
        path = left / "bucket" / item["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download_file("audits", item["Key"], str(path))
    shutil.copytree(home / "warehouse", left / "warehouse")
    assert any(left.rglob("facts/runs/*/failed-*.parquet")) and (left / "good.zip").is_file()
    with closing(sqlite3.connect(left / "prefect/prefect.db")) as database:
        (logs,) = database.execute("select count(*) from log where message like '%***%'").fetchone()
    assert logs > 0
    assert leaks(left) == []
