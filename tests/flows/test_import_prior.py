"""`cfx import-prior` on a small checkpoint in guided-diffusion's format."""

from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from cfx.diffusion.ddpm import load_ddpm
from flows.cli import app
from tests.cfx.adm import random_adm

ARGUMENTS = {"image_size": 16, "num_channels": 32, "channel_mult": [1, 2], "attention_resolutions": [8], "num_res_blocks": 1}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    network = random_adm(base=32, multipliers=(1, 2), attention_factors=(2,), heads=4, blocks=1)
    torch.save(network.state_dict(), tmp_path / "ema.pt")
    (tmp_path / "arguments.yaml").write_text(yaml.safe_dump(ARGUMENTS | {"num_heads": 4, "trained_steps": 250}))
    return tmp_path / "ema.pt"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["import-prior", *map(str, arguments)])


def test_a_prior_from_the_command_line(checkpoint: Path, tmp_path: Path) -> None:
    answer = run(checkpoint, "-o", tmp_path / "prior", "--config", tmp_path / "arguments.yaml")
    assert answer.exit_code == 0, answer.output
    assert "4 heads, 1000 steps" in answer.stdout
    prior = load_ddpm(tmp_path / "prior")
    assert prior.schedule.trained_timesteps == 250
    network = random_adm(base=32, multipliers=(1, 2), attention_factors=(2,), heads=4, blocks=1)
    z, timesteps = torch.randn(1, 3, 16, 24), torch.tensor([40])
    with torch.no_grad():
        torch.testing.assert_close(prior.predict(z, timesteps), network(z, timesteps), atol=1e-5, rtol=0)


def test_heads_given_on_the_command_line_count(checkpoint: Path, tmp_path: Path) -> None:
    arguments = ("--config", tmp_path / "arguments.yaml", "--num-head-channels", 32)
    answer = run(checkpoint, "-o", tmp_path / "prior", *arguments)
    assert answer.exit_code == 0 and "heads of 32 channels" in answer.stdout
    assert {m.heads for m in load_ddpm(tmp_path / "prior").network.modules() if hasattr(m, "heads")} == {2}


def test_what_cannot_be_imported_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (("--like", "celeb"), "there is no 'celeb'; there are celeba, celebahq, bdd, imagenet"),
        ((), "say how the checkpoint was trained"),
        (("--like", "bdd"), "missing input_blocks."),
        (("--like", "celeba", "--num-heads", 4, "--num-head-channels", 64), "one of them"),
    ):
        answer = run(checkpoint, "-o", tmp_path / "prior", *arguments)
        assert answer.exit_code == 2 and words in answer.stderr.replace("\n", " "), answer.output
    assert not (tmp_path / "prior").exists()
