"""The whole audit in an object store: a moto S3 server on loopback, written, read, and refusing half-way."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from benchmarks.toy_audit import fact_hashes, lay_out, settings, write_settings
from cfx.errors import ConfigError
from flows.audit import run_audit
from flows.cli import app
from flows.config import load_config
from tasks.config import AuditConfig
from tasks.data.ingest import DataConfig, fingerprint
from tests.runs import ingested
from warehouse.facts.shards import Shard, damaged, find_shard, read_shard, write_shard
from warehouse.facts.storage import NotWritten, files_below, warehouse_at
from warehouse.lens.connect import query

SECRET = "not-a-secret-but-must-not-be-written"


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A client of a real S3 server with one empty bucket, `audits`."""
    access = {"AWS_ACCESS_KEY_ID": "cfx", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (access | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="audits")
        yield client
        client.close()
    server.stop()


def shards_of(root: Path, fact: str) -> list[Shard]:
    """Every shard of run r."""
    found = (find_shard(root, fact, "r", path.stem) for path in files_below(root / "facts" / fact, "*/*.parquet"))
    return [shard for shard in found if shard is not None]


REJECTED = {"path": ["a.png"], "stage": ["ingest"], "reason": ["missing"], "error": ["gone"]}


def test_a_shard_is_put_once_and_whole(s3: Any) -> None:
    root = warehouse_at("s3://audits/once")
    shard = write_shard(root, "rejected", "r1", "0", REJECTED)
    assert write_shard(root, "rejected", "r1", "0", REJECTED | {"path": ["b.png"]}) == shard
    assert query(root, "select path from rejected").to_pylist() == [{"path": "a.png"}]
    key = "once/facts/rejected/run_id=r1/0.parquet"
    body = s3.get_object(Bucket="audits", Key=key)["Body"].read()
    s3.put_object(Bucket="audits", Key=key, Body=body[:40] + b"?" + body[41:])
    assert [str(path) for path in damaged(root, "r1")] == [f"s3://audits/{key}"]
    assert find_shard(root, "rejected", "r1", "0") is None
    write_shard(root, "rejected", "r1", "0", REJECTED)
    assert damaged(root, "r1") == []


def test_sql_reaches_this_warehouse_and_no_other_object(s3: Any) -> None:
    s3.put_object(Bucket="audits", Key="other/x.csv", Body=b"a\n1\n")
    write_shard(warehouse_at("s3://audits/mine"), "rejected", "r1", "0", REJECTED)
    answer = CliRunner().invoke(app, ["query", "from read_csv('s3://audits/other/x.csv')", "-w", "s3://audits/mine"])
    assert answer.exit_code == 2 and "read-only" in answer.stderr
    answer = CliRunner().invoke(app, ["query", "select count(*) from rejected", "-w", "s3://audits/mine", "-f", "csv"])
    assert (answer.exit_code, answer.stdout.split()[-1]) == (0, "1")


def test_credentials_in_a_url_are_refused(tmp_path: Path) -> None:
    path = write_settings(tmp_path, settings(tmp_path, 2, warehouse=f"s3://cfx:{SECRET}@audits/x"))
    with pytest.raises(ConfigError, match="warehouse: no name or password in an address") as refused:
        load_config(path)
    assert SECRET not in str(refused.value)


def test_images_of_an_object_store_are_those_of_a_folder(s3: Any, tmp_path: Path) -> None:
    """Files and the members of a tar, one of them cut short, one file that is not there and one outside the prefix."""
    lay_out(tmp_path, 4)
    folder = tmp_path / "data/images"
    with tarfile.open(folder / "train-0.tar", "w") as tar:
        tar.add(folder / "00001.png", "a.png")
    tar_bytes = (folder / "train-0.tar").read_bytes()
    (folder / "train-1.tar").write_bytes(tar_bytes[:700])
    (folder / "00001.png").unlink()
    for path in folder.iterdir():
        s3.upload_file(str(path), "audits", f"images/{path.name}")
    s3.put_object(Bucket="audits", Key="beside.png", Body=(folder / "00000.png").read_bytes())
    names = ["00000.png", "00002.png", "00003.png", "train-0.tar/a.png", "train-1.tar/a.png", "gone.png", "../beside.png"]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["file", *names]))
    found: dict[str, Any] = {}
    for where in (str(folder), "s3://audits/images"):
        config = DataConfig.model_validate({"images": where, "table": table, "size": 16, "max_rejected": 1})
        root = tmp_path / f"warehouse-{len(found)}"
        ingested(root, config, 3)
        found[where] = [read_shard(shard).to_pylist() for fact in ("images", "rejected") for shard in shards_of(root, fact)]
    here, there = found.values()
    assert here == there
    admitted, refused = (
        query(root, f"select path from {fact} order by path")["path"].to_pylist() for fact in ("images", "rejected")
    )
    assert admitted == names[:4] and sorted(refused) == sorted(names[4:])
    before = fingerprint(config)
    s3.upload_file(str(folder / "00003.png"), "audits", "images/00002.png")
    assert fingerprint(config) != before


@pytest.mark.slow
@pytest.mark.long
def test_a_bucket_that_refuses_half_way_then_the_whole_audit(s3: Any, tmp_path: Path, prefect_server: dict[str, str]) -> None:
    lay_out(tmp_path, 4)
    refused = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::audits/w/facts/attributes/*",
    }
    s3.put_bucket_policy(Bucket="audits", Policy=json.dumps({"Version": "2012-10-17", "Statement": [refused]}))
    for path in (tmp_path / "data/images").iterdir():
        s3.upload_file(str(path), "audits", f"portraits/{path.name}")
    images = settings(tmp_path, 2)["data"] | {"images": "s3://audits/portraits"}
    there = AuditConfig.model_validate(settings(tmp_path, 2, data=images, warehouse="s3://audits/w"))
    with pytest.raises(NotWritten, match=r"s3://audits/w/facts/attributes/.*could not be written.*run the audit again"):
        run_audit(there)
    listed = {item["Key"]: item["LastModified"] for item in s3.list_objects_v2(Bucket="audits", Prefix="w/facts")["Contents"]}
    assert sum(key.startswith("w/facts/explanations/") for key in listed) == 2
    assert not any(key.startswith("w/facts/attributes/") for key in listed)

    s3.delete_bucket_policy(Bucket="audits")
    run = run_audit(there)
    again = {item["Key"]: item["LastModified"] for item in s3.list_objects_v2(Bucket="audits", Prefix="w/facts")["Contents"]}
    assert {key: again[key] for key in listed} == listed
    assert s3.head_object(Bucket="audits", Key=f"w/reports/{run}.html")["ContentLength"] > 1000

    here = AuditConfig.model_validate(settings(tmp_path, 2, data=images))
    assert run_audit(here) == run
    hashes, local = fact_hashes(there.warehouse), fact_hashes(here.warehouse)
    assert {"runs", "images", "predictions", "explanations", "attributes"} <= set(hashes)
    assert {**hashes, "runs": ""} == {**local, "runs": ""}  # a run's row tells its configuration, and so where it lies
    for item in s3.list_objects_v2(Bucket="audits")["Contents"]:
        assert SECRET.encode() not in s3.get_object(Bucket="audits", Key=item["Key"])["Body"].read()
