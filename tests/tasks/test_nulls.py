"""Nulls are taken over by the next audit of the same images where no classifier had a part in them, and only there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cfx.diffusion.ddpm import DDPM
from cfx.methods.dime import FastDiME
from cfx.methods.maskdime import MaskDiME
from cfx.portraits import draw, render
from tasks.config import Method, PriorConfig
from tasks.explainer import Explainer, Targets, null_images
from tasks.networks import denoiser_for
from tasks.stages.nulls import nulls_shared, taken_over
from tasks.stages.prior import prior_folder
from tests.runs import run_of

PRIOR = denoiser_for(prior_folder(Path(), PriorConfig(path="portraits:prior"), ""), "cpu")


class Counting(nn.Module):
    passes = 0

    def forward(self, z: Tensor, timesteps: Tensor) -> Tensor:
        self.passes += 1
        found: Tensor = PRIOR.network(z, timesteps).sample
        return found


@pytest.mark.parametrize(
    ("method", "passes"), [(FastDiME(steps=50, tau=2, scale=25), 0), (MaskDiME(steps=25, tau=2), 2)], ids=["fastdime", "maskdime"]
)
def test_a_twin_takes_over_what_did_not_depend_on_the_classifier(tmp_path: Path, method: Method, passes: int) -> None:
    x = torch.from_numpy(np.stack([render(portrait) for _, portrait in draw(3, seed=8)])).permute(0, 3, 1, 2).float() / 127.5 - 1
    targets, first = Targets(["a", "b", "c"], x, torch.tensor([0, 1, 1])), torch.zeros(3, dtype=torch.long)
    runs = [run_of(tmp_path, twin, classifier={"weights": f"portraits:{twin}"}) for twin in ("planted", "clean")]
    counting = Counting()
    prior = DDPM(counting, PRIOR.schedule, PRIOR.channels)
    explainers = [Explainer(prior, run.classifier(), (method,), 64) for run in runs]
    some = Targets(["a", "b"], x[:2], targets.target[:2])
    with nulls_shared():
        for one in (some, targets):  # the first batch has fewer companions
            taken_over(runs[0], null_images, explainers[0], one, first[: len(one.x)], 0)
        before = counting.passes
        found = taken_over(runs[1], null_images, explainers[1], targets, first, 0)
        assert counting.passes - before == passes
        assert taken_over(runs[1], null_images, explainers[1], targets, first, 1)[0].ne(found[0]).any()  # another seed's noise
    before = counting.passes
    exact = taken_over(runs[1], null_images, explainers[1], targets, first, 0)
    assert counting.passes - before == 2  # outside nothing is shared
    assert torch.equal(found[0], exact[0]) and found[1].equal(exact[1]) and not torch.equal(found[0], x)
    assert [(cost.nfe_forward, cost.nfe_backward) for cost in found[2]] == [(2, 0)] * 3
