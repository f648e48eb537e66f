"""An archive is the whole evidence of a run: any one change is found and its file named; a signature says whose it is."""

from __future__ import annotations

import base64
import json
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
import yaml
from archive_changes import Files, changed, read, recompute, zipped
from evidence_run import flip
from typer.testing import CliRunner

from cfx.errors import UserError
from flows.cli import app
from warehouse.evidence.contents import Claims
from warehouse.evidence.export import digest_in, export
from warehouse.evidence.signature import private_key, public_key, signed
from warehouse.evidence.verify import Verification
from warehouse.evidence.verify_archive import Remade, remake, verify_archive
from warehouse.explorer.reviews import review
from warehouse.lens.connect import query


@pytest.fixture(scope="module")
def archive(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(written, "run", tmp_path_factory.mktemp("archive") / "archive.zip")


@pytest.fixture(scope="module")
def verified() -> Callable[..., Verification]:
    """Verifies; what is made of the same facts and claims is made once."""
    made: dict[object, Remade] = {}

    def once(root: Path, run: str, facts: Mapping[str, str], claims: Claims) -> Remade:
        of = run, tuple(sorted(facts.items())), repr(claims)
        if of not in made:
            made[of] = remake(root, run, facts, claims)
        return made[of]

    return partial(verify_archive, again=once)


Verify = Callable[..., Verification]


def test_an_archive_is_whole_and_its_digest_is_that_of_its_list(archive: Path, verified: Verify) -> None:
    found = verified(archive)
    assert found.sound and found.numbers == found.recomputed > 500 and found.digest == digest_in(archive)
    assert (
        found.digest
        == "sha256:"
        + subprocess.run(
            f"unzip -p {archive} SHA256SUMS | sha256sum | cut -d' ' -f1", shell=True, capture_output=True, text=True
        ).stdout.strip()
    )


@pytest.mark.parametrize("seed", range(4))
def test_one_change_is_found_and_named(archive: Path, verified: Verify, tmp_path: Path, seed: int) -> None:
    found_and_named(archive, verified, tmp_path, seed)


@pytest.mark.long
def test_two_hundred_changes_are_two_hundred_found(archive: Path, verified: Verify, tmp_path: Path) -> None:
    for seed in range(200):
        found_and_named(archive, verified, tmp_path, seed)


def found_and_named(archive: Path, verified: Verify, folder: Path, seed: int) -> None:
    data, named, what = changed(archive, seed)
    path = folder / "archive.zip"
    path.write_bytes(data)
    found = verified(path)
    assert found.state == "damaged" and named & set(found.bad_files), f"{seed}: {what}: {found.reasons}"


def text(name: str, old: str, new: str) -> Callable[[Files], str]:
    def change(files: Files) -> str:
        assert old in files[name].decode(), f"{old} in {name}"
        files[name] = files[name].decode().replace(old, new, 1).encode()
        return name

    return change


REPORT = "reports/run.html"
FORGED = {
    "verdict": text(REPORT, ">inconclusive<", ">clear<"),
    "headline": text(REPORT, "<title>", "<title>Nothing found · "),
    "script": text(REPORT, "</head>", "<script>fetch('https://example.org')</script></head>"),
    "policy of the page": text(REPORT, '<meta http-equiv="Content-Security-Policy"', '<meta name="removed"'),
    "query": text(REPORT, "select * from runs", "select 1 from runs"),
    "card": text("README.md", "Release check inconclusive", "Release check passed"),
    "summary": text("summary.json", '"verdict": "inconclusive"', '"verdict": "pass"'),
    "configuration": text("config.yaml", "method: dime", "method: other"),
    "maker": text(REPORT, 'content="cfx ', 'content="cfx 9'),
    "facts": text(REPORT, '<meta name="facts" content="sha256:', '<meta name="facts" content="sha256:0'),
}


LONG = FORGED.keys() - {"verdict", "script", "summary", "facts"}  # the others are found in the same way
CASES = [pytest.param(change, id=name, marks=[pytest.mark.long] * (name in LONG)) for name, change in FORGED.items()]


@pytest.mark.parametrize("change", CASES)
def test_what_was_forged_is_named_also_where_every_sum_is_new(
    archive: Path, verified: Verify, tmp_path: Path, change: Callable[[Files], str]
) -> None:
    files, path = read(archive), tmp_path / "archive.zip"
    name = change(files)
    recompute(files)
    path.write_bytes(zipped(files))
    found = verified(path)
    assert found.state == "damaged" and name in found.bad_files, found.reasons
    assert found.reasons[name]


def test_facts_of_another_run_are_refused(archive: Path, verified: Verify, tmp_path: Path) -> None:
    files, path = read(archive), tmp_path / "archive.zip"
    there = next(name for name in files if name.startswith("facts/rejected/run_id=run/"))
    files[there.replace("=run/", "=stranger/")] = files[there]
    recompute(files)
    path.write_bytes(zipped(files))
    assert verified(path).bad_files == [there.replace("=run/", "=stranger/")]


@pytest.mark.long
def test_an_archive_of_another_version_is_neither_passed_nor_accused(archive: Path, verified: Verify, tmp_path: Path) -> None:
    files, path = read(archive), tmp_path / "archive.zip"
    for name in (REPORT, "summary.json"):
        text(name, "cfx 0.", "cfx 9.")(files)
    text(REPORT, "Skip to the verdict", "Jump to the verdict")(files)  # as another version may say it
    recompute(files)
    path.write_bytes(zipped(files))
    found = verified(path)
    assert found.state == "other version" and found.maker is not None and found.maker.startswith("cfx 9.")
    assert not found.bad_files and found.numbers == found.recomputed
    fact = next(name for name in files if name.startswith("facts/effects/"))
    files[fact] = files[fact][:40] + bytes([files[fact][40] ^ 1]) + files[fact][41:]
    recompute(files)
    path.write_bytes(zipped(files))
    assert verified(path).state == "damaged"


def test_an_archive_never_mends_what_was_altered(root: Path, tmp_path: Path) -> None:
    report = root / "reports" / "run.html"
    flip(report)
    altered = report.read_bytes()
    with zipfile.ZipFile(export(root, "run", tmp_path / "run.zip")) as packed:
        assert packed.read("reports/run.html") == altered


@pytest.mark.long
def test_an_archive_is_the_whole_evidence_also_what_is_newer_than_the_report(root: Path, tmp_path: Path) -> None:
    review(root, "run", "Ada", "rejected", attribute="glasses")
    path = export(root, "run", tmp_path / "run.zip")
    assert verify_archive(path).sound
    with zipfile.ZipFile(path) as packed:
        names = set(packed.namelist())
        assert {"README.md", "SHA256SUMS", "config.yaml", "summary.json", "reports/run.html"} < names
        _, head, body = packed.read("README.md").decode().split("---\n", 2)
        packed.extractall(tmp_path / "unpacked")
    card = yaml.safe_load(head)
    metrics = card["model-index"][0]["results"][0]["metrics"]
    assert {"fr", "judge_fr"} <= {metric["type"] for metric in metrics} and "<b>" not in body
    verdicts = "from verdicts order by run_id, rank"
    assert query(tmp_path / "unpacked", verdicts).equals(query(root, verdicts))
    assert export(root, "run", tmp_path / "again.zip").read_bytes() == path.read_bytes()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs as people make them: a, by OpenSSH, b, by OpenSSL."""
    folder = tmp_path_factory.mktemp("keys")
    for command in (
        "ssh-keygen -q -t ed25519 -N '' -f a",
        "openssl genpkey -algorithm ed25519 -out b",
        "openssl pkey -in b -pubout -out b.pub",
        "openssl genpkey -algorithm RSA -out rsa",
    ):
        subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True)
    return folder


def never() -> str:
    raise AssertionError("this key is not encrypted")


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_signature_holds_for_its_content_and_key_alone(
    archive: Path, verified: Verify, tmp_path: Path, keys: Path, name: str
) -> None:
    unsigned, path = read(archive), tmp_path / "archive.zip"
    files = unsigned | {"SIGNATURE": signed(digest_in(archive), private_key(keys / name, never))}
    path.write_bytes(zipped(files))
    mine, other = public_key(keys / f"{name}.pub"), public_key(keys / f"{'ab'.replace(name, '')}.pub")
    found = verified(path, mine)
    assert found.sound and found.vouched and found.signer is not None and found.signer.startswith("SHA256:")
    found = verified(path)
    assert found.sound and not found.vouched and found.signer is not None
    assert verified(path, other).bad_files == ["SIGNATURE"]
    assert verified(archive, mine).reasons == {"SIGNATURE": "it is missing: nobody signed this archive"}
    path.write_bytes(zipped(unsigned | {"SIGNATURE": signed("sha256:" + "0" * 64, private_key(keys / name, never))}))
    assert "other content" in verified(path, mine).reasons["SIGNATURE"] and not verified(path).sound


def test_a_signature_can_be_checked_without_cfx(archive: Path, keys: Path, tmp_path: Path) -> None:
    digest = digest_in(archive)
    signature = signed(digest, private_key(keys / "b", never))
    (tmp_path / "text").write_text(f"cfx archive {digest}\n")
    (tmp_path / "signature").write_bytes(base64.b64decode(signature.splitlines()[1]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(keys / "b.pub"), "-rawin", "-in", "text"]
    done = subprocess.run([*command, "-sigfile", "signature"], cwd=tmp_path, capture_output=True, text=True)
    assert "Signature Verified Successfully" in done.stdout


def test_a_key_that_cannot_be_used_is_refused_by_name(keys: Path) -> None:
    with pytest.raises(UserError, match="rsa is no Ed25519 key; make a pair with `ssh-keygen -t ed25519"):
        private_key(keys / "rsa", never)
    with pytest.raises(UserError, match="a.pub is no private key"):
        private_key(keys / "a.pub", never)
    with pytest.raises(UserError, match="/a is a private key; give the public one"):
        public_key(keys / "a")
    with pytest.raises(UserError, match="nowhere cannot be read: No such file"):
        public_key(keys / "nowhere")


@pytest.mark.long
def test_commands_sign_and_verify_as_documented(written: Path, keys: Path, tmp_path: Path) -> None:
    def cfx(*arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return done.exit_code, done.output

    path = tmp_path / "run.zip"
    code, exported = cfx("export", "run", "--sign", keys / "a", "-o", path, "-w", written)
    digest = exported.splitlines()[-1]
    assert code == 0 and digest.startswith("digest sha256:")
    code, said = cfx("verify", path, "--key", keys / "a.pub")
    assert code == 0 and digest in said and "by the key given" in said
    code, said = cfx("verify", path, "--key", keys / "b.pub", "--json")
    found = json.loads(said)
    assert code == 1 and found["state"] == "damaged" and found["bad_files"] == ["SIGNATURE"]
    assert "made with another key" in found["reasons"]["SIGNATURE"]
    code, said = cfx("verify", "run", "-w", written, "--key", keys / "a.pub")
    assert code == 2 and "--key is for an archive" in said
    code, said = cfx("export", "papers", "run", "-w", written, "--sign", keys / "a")
    assert code == 2 and "--sign is for the archive of a run" in said
