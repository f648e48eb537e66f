"""What had no name gets one: a card in a real browser, an oracle that is taught it, and the next audit has it as an attribute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from chromium import chromium_page
from scipy.stats import spearmanr
from served import serving
from torch import nn
from typer.testing import CliRunner

from flows.audit import run_audit
from flows.cli import app
from tasks.config import AuditConfig
from tasks.training.unnamed import write_unnamed
from warehouse.lens.connect import query

pytestmark = [pytest.mark.slow, pytest.mark.browser]
NAME = "warm light"


class ByWarmth(nn.Module):
    """A classifier of nothing but the colour of the light: logits of red minus blue."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        warmth = 30 * (x[:, 0] - x[:, 2]).mean((1, 2)) - 4.5
        return torch.stack([-warmth, warmth], 1)


def settings(folder: Path, **more: Any) -> AuditConfig:
    return AuditConfig.model_validate(
        {
            "name": "warmth",
            "warehouse": folder / "warehouse",
            "data": {
                "images": folder / "data/images",
                "table": folder / "data/attributes.csv",
                "label_column": "label",
            },
            "classifier": {"module": "tests.flows.test_named_cards:ByWarmth", "classes": ["not_smiling", "smiling"]},
            "oracle": {"weights": "portraits:oracle"},
            "target_attribute": "smile",
        }
        | more
    )


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, prefect_server: dict[str, str]) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("warmth")
    write_unnamed(folder / "data", "cast", 36, 11)
    yield folder, run_audit(settings(folder))


@pytest.mark.long
def test_a_card_named_in_the_explorer_is_an_attribute_of_the_next_audit(audited: tuple[Path, str]) -> None:
    folder, run = audited
    root, oracle = folder / "warehouse", folder / "oracle.safetensors"
    with serving(root) as address, chromium_page() as page:
        page.resize(1280)
        page.open(f"{address}/runs/{run}")
        form = "document.querySelector('#property-warmth form')"
        ticked = page.evaluate(f"{form}.querySelectorAll('[name=has]:checked').length")
        assert ticked == page.evaluate(f"{form}.querySelectorAll('[name=has]').length") // 2 == 12
        page.evaluate(f"{form}.querySelector('[name=name]').value = '{NAME}'")
        page.evaluate(f"{form}.querySelector('[name=reviewer]').value = 'Ada'")
        page.submit(f"{form}.querySelector('button[value=\"1\"]').click()")
        assert NAME in page.evaluate("document.querySelector('#property-warmth h3').innerText")
        assert page.complaints == []
    (kept,) = query(root, "from names").to_pylist()
    assert (kept["name"], kept["claim"], len(kept["has"]), len(kept["lacks"])) == (NAME, "warmth", 12, 12)

    taught = CliRunner().invoke(app, ["train", "oracle", "--teach", run, "-w", str(root), "--out", str(oracle)])
    assert taught.exit_code == 0 and f"{NAME}: held-out accuracy" in taught.output, taught.output
    more = {"oracle": {"weights": oracle}, "prior": {"path": "portraits:prior"}, "interventions": {"images": 8, "attributes": 2}}
    ladder = [{"method": "fastdime", "steps": 50, "tau": 16, "scale": 60}]
    following = run_audit(settings(folder, **more, ladder=ladder))
    rows = {row["name"]: row for row in query(root, "from findings where run_id = $run", {"run": following}).to_pylist()}
    assert (rows[NAME]["kind"], rows["warmth"]["kind"]) == ("attribute", "property")
    assert rows[NAME]["verdict"] in ("confirmed", "suspected") and rows[NAME]["association"] > 0
    edited = query(root, "select distinct attribute from effects where run_id = $run", {"run": following})[
        "attribute"
    ].to_pylist()
    assert NAME in edited
    # What was taught by 24 ticked images is true of all: the output follows the warmth that is measured on each image.
    seen = query(
        root,
        f"""select "p_{NAME}" as p, m_warmth as warmth from attributes join properties using (run_id, image_id)
            where run_id = $run and arm = 'guided'""",
        {"run": following},
    )
    assert seen.num_rows == 36
    assert spearmanr(seen["p"].to_numpy(), seen["warmth"].to_numpy()).statistic > 0.8
