"""The whole audit in an object store: a moto S3 server on loopback, written, read, and refusing half-way."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from benchmarks.toy_audit import fact_hashes, lay_out, settings, write_settings
from flows.audit import run_audit
from flows.cli import app
from flows.config import AuditConfig, ConfigError, load_config
from warehouse.connect import query
from warehouse.shards import damaged, find_shard, write_shard
from warehouse.storage import NotWritten, warehouse_at

SECRET = "not-a-secret-but-must-not-be-written"


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A client of a real S3 server with one empty bucket, `audits`."""
    told = {"AWS_ACCESS_KEY_ID": "cfx", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (told | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="audits")
        yield client
        client.close()
    server.stop()


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
    with pytest.raises(ConfigError, match="warehouse: .*credentials do not belong into a URL") as refused:
        load_config(path)
    assert SECRET not in str(refused.value)


@pytest.mark.slow
def test_a_bucket_that_refuses_half_way_then_the_whole_audit(s3: Any, tmp_path: Path, prefect_server: None) -> None:
    lay_out(tmp_path, 8)
    refused = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::audits/w/facts/attributes/*",
    }
    s3.put_bucket_policy(Bucket="audits", Policy=json.dumps({"Version": "2012-10-17", "Statement": [refused]}))
    there = AuditConfig.model_validate(settings(tmp_path, 2, warehouse="s3://audits/w"))
    with pytest.raises(NotWritten, match=r"s3://audits/w/facts/attributes/.*could not be written.*run the audit again"):
        run_audit(there)
    listed = {item["Key"]: item["LastModified"] for item in s3.list_objects_v2(Bucket="audits", Prefix="w/facts")["Contents"]}
    assert sum(key.startswith("w/facts/explanations/") for key in listed) == 4
    assert not any(key.startswith("w/facts/attributes/") for key in listed)

    s3.delete_bucket_policy(Bucket="audits")
    run = run_audit(there)
    again = {item["Key"]: item["LastModified"] for item in s3.list_objects_v2(Bucket="audits", Prefix="w/facts")["Contents"]}
    assert {key: again[key] for key in listed} == listed
    assert s3.head_object(Bucket="audits", Key=f"w/reports/{run}.html")["ContentLength"] > 1000

    here = AuditConfig.model_validate(settings(tmp_path, 2))
    assert run_audit(here) == run
    hashes, local = fact_hashes(there.warehouse), fact_hashes(here.warehouse)
    assert {"runs", "images", "predictions", "explanations", "attributes"} <= set(hashes)
    assert {**hashes, "runs": ""} == {**local, "runs": ""}  # a run's row tells its configuration, and so where it lies
    for item in s3.list_objects_v2(Bucket="audits")["Contents"]:
        assert SECRET.encode() not in s3.get_object(Bucket="audits", Key=item["Key"])["Body"].read()
