"""`cfx train prior` from the command line: after a kill -9 it goes on to the very weights of an undisturbed training."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from cfx.diffusion.ddpm import load_ddpm
from cfx.diffusion.training import PriorTraining
from cfx.portraits import write_portraits
from tasks.training.from_folder import prior_from_folder

TINY = PriorTraining(size=16, patch=2, channels=(32, 32), steps=80, batch=4, accumulate=2, checkpoint_every=10)


@pytest.mark.slow
@pytest.mark.long
def test_killed_and_run_again(tmp_path: Path) -> None:
    write_portraits(tmp_path / "data", 12, seed=0)
    (tmp_path / "training.yaml").write_text(yaml.safe_dump(TINY.model_dump(mode="json", exclude_defaults=True)))
    command = [str(Path(sys.executable).with_name("cfx")), "train", "prior", str(tmp_path / "data"), "--quiet"]
    command += ["-o", str(tmp_path / "prior"), "--config", str(tmp_path / "training.yaml"), "--workers", "1"]
    killed = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint, deadline = tmp_path / "prior" / "checkpoint.pt", time.monotonic() + 240
    while not checkpoint.is_file():
        assert killed.poll() is None and time.monotonic() < deadline, "the training ended before it could be killed"
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    reached = torch.load(checkpoint, weights_only=True)["step"]
    assert 10 <= reached < TINY.steps and not (tmp_path / "prior" / "unet").exists()

    again = subprocess.run([word for word in command if word != "--quiet"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    first = re.findall(r"training: step ([\d,]+) of", again.stderr)[0]
    assert int(first.replace(",", "")) > reached, "it did not begin anew"
    undisturbed = load_ddpm(prior_from_folder(tmp_path / "data", TINY, tmp_path / "whole", lambda step, loss: None, workers=0))
    resumed = load_ddpm(tmp_path / "prior").network.state_dict()
    for name, weight in undisturbed.network.state_dict().items():
        torch.testing.assert_close(resumed[name], weight, msg=name, rtol=0, atol=1e-3)  # half precision on disk
    assert not checkpoint.exists()
