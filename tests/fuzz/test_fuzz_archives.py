"""Any bytes for an archive: it holds what was exported, or it is found damaged, in bounded time and memory."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from evidence_run import write_evidence
from hypothesis import example, given
from hypothesis import strategies as st

from tasks import pack
from tests.fuzz.bounds import answer, examples
from tests.fuzz.mutation import mutated
from warehouse.evidence.export import export


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = tmp_path_factory.mktemp("warehouse")
    write_evidence(root)
    return export(root, "run", root / "run.zip").read_bytes()


def contents(archive: bytes) -> dict[str, bytes]:
    """What is in an archive, by name."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return {name: file.read(name) for name in file.namelist()}


def packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.long
def test_a_changed_archive_is_what_was_exported_or_found_damaged(archive: bytes, tmp_path: Path) -> None:
    exported, path = contents(archive), tmp_path / "run.zip"
    names = sorted(exported)
    member = st.sampled_from(names).flatmap(lambda name: mutated(exported[name]).map(lambda new: packed(exported | {name: new})))
    stray = st.sampled_from(
        ["../out", "/tmp/out", "a\\..\\..\\out", "facts/runs/x.parquet", "reports/other.html", "C:\\x", "x" * 300]
    )

    @examples(5, 100)
    @given(
        st.one_of(
            mutated(archive, range(len(archive) - 3000, len(archive))),
            member,
            stray.map(lambda name: packed(exported | {name: b"x"})),
        )
    )
    @example(b"")
    @example(archive[:-1])
    @example(packed({}))
    @example(packed({"a/" * 3000 + "b": b""}))
    @example(packed({"reports/run.html": bytes(300 * 2**20)}))
    def holds(content: bytes) -> None:
        path.write_bytes(content)
        found = answer(lambda: pack.verify(tmp_path, str(path)), path, mib=1024, seconds=60)
        if found is not None and found.sound:
            assert contents(content) == exported

    holds()
    assert answer(lambda: (path.write_bytes(archive), pack.verify(tmp_path, str(path)))[1].sound, mib=1024, seconds=60)
    assert not (tmp_path.parent / "out").exists() and not Path("/tmp/out").exists()
