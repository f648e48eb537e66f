"""A hub id is one commit: taken from the cache where it lies there, and named so that later runs read the same."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from cfx.diffusion.hub import model_folder
from cfx.diffusion.pipelines import load_latent_model, pipeline_fingerprint
from tests.cfx.tiny_pipelines import write

COMMITS = ("a" * 40, "b" * 40)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache as huggingface_hub keeps it, without a network: owner/name at two commits, main is the first."""
    folder, there = write(tmp_path / "dit", "dit"), tmp_path / "hub" / "models--owner--name"
    for commit in COMMITS:
        shutil.copytree(folder, there / "snapshots" / commit)
    (there / "refs").mkdir()
    (there / "refs" / "main").write_text(COMMITS[0])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return there


def test_a_hub_id_is_read_at_one_commit(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "cfx.diffusion"):
        assert model_folder("owner/name").commit == COMMITS[0]
        assert "owner/name was read as its commit aaaaaaaaaaaa" in caplog.text
        assert f"add `revision: {COMMITS[0]}`" in caplog.text
        caplog.clear()
        assert model_folder("owner/name", COMMITS[1]).path == cache / "snapshots" / COMMITS[1]
        assert not caplog.text
    assert load_latent_model("owner/name", COMMITS[1]).side == 32
    prints = {pipeline_fingerprint("owner/name", commit) for commit in (*COMMITS, "main")}
    assert len(prints) == 2  # main is the first
    (cache / "refs" / "main").write_text(COMMITS[1])
    assert pipeline_fingerprint("owner/name") == pipeline_fingerprint("owner/name", COMMITS[1])


def test_a_commit_that_is_whole_in_the_cache_needs_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def no_network(source: str, *_: str, **more: object) -> str:
        asked.append(source)
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", no_network)
    assert model_folder("owner/name", COMMITS[1]).commit == COMMITS[1] and not asked
    (weights,) = (cache / "snapshots" / COMMITS[1] / "vae").glob("*.safetensors")
    weights.unlink()  # as an interrupted download leaves it
    with pytest.raises(FileNotFoundError, match="could not be had"):
        model_folder("owner/name", COMMITS[1])
    assert asked


def test_what_is_neither_in_the_cache_nor_to_be_had_is_said(cache: Path) -> None:
    for source, revision, words in (
        ("owner/other", None, "'owner/other' is no folder here, and as a hub id it could not be had: .*hf download owner/other"),
        ("owner/name", "v2", "as a hub id at revision 'v2' it could not be had"),
    ):
        with pytest.raises(FileNotFoundError, match=words):
            model_folder(source, revision)
