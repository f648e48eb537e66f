"""Teaching an oracle what people named: one output more, the others as they were; what cannot be taught is refused in words."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from facts import image_ids, run_rows
from PIL import Image
from typer.testing import CliRunner

from cfx.attributes.oracle import OracleConfig, load_oracle
from cfx.errors import UserError
from cfx.images import decode_png
from flows.cli import app
from tasks.training.taught import teach_oracle
from warehouse.facts.shards import write_shard

RUN = "r1"
IDS = image_ids(24)


def png(bright: bool, i: int) -> bytes:
    rng = np.random.default_rng(i)
    pixels = rng.integers(0, 90, (64, 64, 3), dtype=np.uint8) + np.uint8(130 if bright else 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def warehouse(root: Path, config: str, has: list[str], lacks: list[str], name: str | None = "a lamp", kept: bool = True) -> Path:
    """Images of which the first half is bright, and a name that somebody gave."""
    n = len(IDS)
    pngs = [png(i < n // 2, i) if kept else None for i in range(n)]
    files = {"image_id": IDS, "split": [None] * n, "path": IDS, "width": [64] * n, "height": [64] * n, "label": [None] * n}
    write_shard(root, "images", RUN, "0", files | {"png": pngs})
    write_shard(root, "runs", RUN, "finished", run_rows(config=config))
    given = {"written": run_rows()["started"], "reviewer": ["Ada"], "kind": ["property"], "claim": ["brightness"], "name": [name]}
    write_shard(root, "names", RUN, "0", given | {"has": [has], "lacks": [lacks]})
    return root


BUNDLED = '{"oracle": {"weights": "portraits:oracle"}, "classifier": {"weights": "portraits:planted"}}'
NO_ORACLE = '{"oracle": null, "classifier": {"weights": "portraits:planted"}}'
BLACK_BOX = '{"oracle": null, "classifier": {"access": "onnx", "weights": "there.onnx"}}'
HALF = len(IDS) // 2


def test_the_new_output_knows_it_and_the_others_are_as_they_were(tmp_path: Path) -> None:
    (taught,) = teach_oracle(warehouse(tmp_path, BUNDLED, IDS[:8], IDS[HALF : HALF + 8]), RUN, tmp_path / "o.safetensors")
    assert (taught.name, taught.has, taught.lacks) == ("a lamp", 8, 8) and taught.accuracy >= 0.9
    before, after = (load_oracle(OracleConfig(weights=path)) for path in (Path("portraits:oracle"), tmp_path / "o.safetensors"))
    assert after.attributes == (*before.attributes, "a lamp")
    x = decode_png([png(i < HALF, i) for i in range(len(IDS))])
    torch.testing.assert_close(after(x)[:, :-1], before(x))
    assert ((after(x)[:, -1] > 0.5) == (torch.arange(len(IDS)) < HALF)).float().mean() >= 0.9  # also of images nobody ticked


def test_without_an_oracle_the_classifiers_own_features_learn_it(tmp_path: Path) -> None:
    teach_oracle(warehouse(tmp_path, NO_ORACLE, IDS[:8], IDS[HALF : HALF + 8]), RUN, tmp_path / "o.safetensors")
    assert load_oracle(OracleConfig(weights=tmp_path / "o.safetensors")).attributes == ("a lamp",)


@pytest.mark.parametrize(
    ("config", "has", "lacks", "name", "kept", "words"),
    [
        (BUNDLED, IDS[:8], IDS[HALF:], None, True, "nothing was named in run 'r1'; name a card in the explorer"),
        (BUNDLED, IDS[:3], IDS[HALF:], "a lamp", True, "'a lamp' has 3 images that have it and 12 that have not; 4 of each"),
        (BUNDLED, IDS[:8], IDS[HALF:], "glasses", True, "'glasses' is an attribute of the oracle already"),
        (BUNDLED, IDS[:8], IDS[HALF:], "a lamp", False, "kept no copy of image .*thumbnails: true"),
        (BLACK_BOX, IDS[:8], IDS[HALF:], "a lamp", True, "a black box gives no features; audit it with an `oracle`"),
        (BUNDLED, IDS[::2], IDS[1::2], "a lamp", True, "'a lamp' is told right on .*mark more of them"),
    ],
    ids=["not a thing", "too few", "known", "no images", "black box", "nothing in common"],
)
def test_what_cannot_be_taught_is_refused(
    tmp_path: Path, config: str, has: list[str], lacks: list[str], name: str | None, kept: bool, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        teach_oracle(warehouse(tmp_path, config, has, lacks, name, kept), RUN, tmp_path / "o.safetensors")
    assert not (tmp_path / "o.safetensors").exists()


@pytest.mark.parametrize("beside", [["images", "table.csv"], ["--split", "train"], ["--config", "how.yaml"]])
def test_what_teaching_would_not_read_is_refused(beside: list[str]) -> None:
    ended = CliRunner().invoke(app, ["train", "oracle", "--teach", RUN, "--out", "o.safetensors", *beside])
    assert ended.exit_code == 2 and "learns from ticked images" in " ".join(ended.output.split())


def test_an_unknown_run_is_refused_with_those_there_are(tmp_path: Path) -> None:
    root = warehouse(tmp_path, BUNDLED, IDS[:8], IDS[HALF:])
    with pytest.raises(UserError, match="there is no run 'r2' in .*the runs are: r1"):
        teach_oracle(root, "r2", tmp_path / "o.safetensors")
