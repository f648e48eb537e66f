"""A UNet compiled by ONNX Runtime: the same explanations as torch's, whatever else is in the batch, and never silently."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cfx.classifiers import ClassifierConfig
from cfx.diffusion.compiled import Compiled, Session, check_compiles
from cfx.diffusion.ddpm import DDPM
from cfx.diffusion.first_step import FirstAnswers
from cfx.errors import UserError
from cfx.methods.dime import FastDiME
from cfx.portraits import draw, render
from flows.demo import demo_config, lay_out
from tasks.check import check, loaded_prior
from tasks.config import AuditConfig, PriorConfig
from tasks.explainer import Explainer, Targets, explain_images, null_images
from tasks.networks import classifier_for
from tasks.stages.interventions import edits_id

METHOD = FastDiME(steps=50, tau=5, scale=80, threshold=0.3)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> AuditConfig:
    folder = tmp_path_factory.mktemp("portraits")
    lay_out(folder, 8)
    return demo_config(folder, "planted", 8)


def compiled(config: AuditConfig) -> AuditConfig:
    return config.model_copy(update={"prior": PriorConfig(path="portraits:prior", runtime="onnxruntime")})


def uncompiled(config: AuditConfig) -> AuditConfig:
    return config.model_copy(update={"prior": PriorConfig(path="portraits:prior")})


def test_compiled_explanations_are_torchs_and_do_not_depend_on_the_batch(config: AuditConfig) -> None:
    x = torch.from_numpy(np.stack([render(portrait) for _, portrait in draw(10, seed=8)])).permute(0, 3, 1, 2).float() / 127.5 - 1
    classifier, ids = classifier_for(ClassifierConfig(weights="portraits:planted"), "cpu"), [str(i) for i in range(10)]
    target, prior = 1 - classifier(x).argmax(1), loaded_prior(compiled(config), "cpu")

    def explained(prior: DDPM, order: list[int]) -> torch.Tensor:
        explainer = Explainer(prior, classifier, (METHOD,), 64)
        known: FirstAnswers = {}
        targets = Targets([ids[i] for i in order], x[order], target[order])
        found, _ = explain_images(explainer, targets, 0, known)
        null, _, _ = null_images(explainer, targets, found.attempt, 0, known)
        return torch.stack([found.x_cf, null])

    forwards = explained(prior, list(range(10)))
    assert torch.equal(explained(prior, list(range(9, -1, -1))).flip(1), forwards)
    exact = explained(loaded_prior(uncompiled(config), "cpu"), list(range(10)))
    torch.testing.assert_close(forwards, exact, atol=1e-4, rtol=0)
    assert torch.equal(classifier(forwards[0]).argmax(1), classifier(exact[0]).argmax(1))
    assert (forwards[0] - x).abs().amax() > 0.1  # and they are explanations, not copies


def test_a_pass_that_is_differentiated_through_is_torchs(config: AuditConfig) -> None:
    compiled_one, exact = (loaded_prior(one(config), "cpu") for one in (compiled, uncompiled))
    z = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.equal(*(torch.autograd.grad(prior.step(z, 9).x0.square().sum(), z)[0] for prior in (compiled_one, exact)))
    assert compiled_one.size == exact.size and compiled_one.multiple == exact.multiple


def test_what_fills_a_batch_up_is_not_computed(config: AuditConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    prior = loaded_prior(compiled(config), "cpu")
    z, t = torch.randn(8, 48, 16, 16, generator=torch.Generator().manual_seed(0)), torch.full((8,), 300)
    with torch.no_grad():
        every = prior.network(z, t)
        computed: list[int] = []
        call = Session.__call__

        def counted(session: Session, z: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            computed.append(len(z))
            return call(session, z, timesteps)

        monkeypatch.setattr(Session, "__call__", counted)
        filled = prior.network(z[[5, 6, 7, 5, 5, 5, 5, 5]], t)
        others = prior.network(z[[5, 5, 6, 5, 5, 5, 5, 5]], t), prior.network(z[:1].expand(8, -1, -1, -1), torch.arange(8))
    assert torch.equal(filled, every[[5, 6, 7, 5, 5, 5, 5, 5]]) and torch.equal(others[0], every[[5, 5, 6, 5, 5, 5, 5, 5]])
    assert computed == [3, 3, 8]  # copies at the end alone, and of the timestep, too


class LargeOtherwise(torch.nn.Module):
    """Of more than two images it says something else."""

    def forward(self, z: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        more = (torch.ones_like(z).sum() > 2 * z[0].numel()).to(z)
        return z * timesteps[:, None, None, None] + more * z.mean(0, keepdim=True)


def test_a_batch_that_is_larger_than_was_tried_is_tried_first() -> None:
    ours, t = Compiled(LargeOtherwise().eval()), torch.full((8,), 7)
    z = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for shown in (z[:2], z[[0, 1, 2, 3, 0, 0, 0, 0]], z[:2]):
        times = t[: len(shown)]
        torch.testing.assert_close(ours(shown, times), LargeOtherwise()(shown, times))


class BesideOthers(torch.nn.Module):
    """What it says of an image depends on how many there are."""

    def forward(self, z: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return z.mean(0, keepdim=True) + z * timesteps[:, None, None, None]


class OfConstantSize(torch.nn.Module):
    """Its code fixes the size of the batch when it is traced."""

    def forward(self, z: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return z * (timesteps + torch.arange(1.0, len(z) + 1))[:, None, None, None]


@pytest.mark.parametrize("network", [BesideOthers(), OfConstantSize()])
def test_a_network_whose_batch_counts_is_compiled_for_each_size_and_computes_all_of_it(network: torch.nn.Module) -> None:
    ours, t = Compiled(network.eval()), torch.full((4,), 7)
    z = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for shown in (z, z[[0, 1, 0, 0]], z[:2], z[:1]):
        times = t[: len(shown)]
        torch.testing.assert_close(ours(shown, times), network(shown, times))


class Eigenvalues(torch.nn.Module):
    def forward(self, z: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(z).abs()


def test_a_network_that_cannot_be_compiled_is_said_with_the_way_out() -> None:
    with pytest.raises(UserError, match=r"(?s)runtime: onnxruntime cannot compile this UNet \(.*eig.*\); set `runtime: torch`"):
        Compiled(Eigenvalues())(torch.ones(1, 3, 8, 8), torch.zeros(1, dtype=torch.long))


def test_what_computes_the_prior_is_part_of_the_run(config: AuditConfig) -> None:
    exact, other = check(uncompiled(config)), check(compiled(config))
    assert exact.id != other.id and edits_id(exact) != edits_id(other)
    halved = replace(exact, fingerprints={**exact.fingerprints, "precision": "bfloat16"})
    assert edits_id(halved) != edits_id(exact) and not {"runtime", "precision"} & exact.fingerprints.keys()
    assert str(other.fingerprints["runtime"]).startswith("onnxruntime 1.")
    assert exact.fingerprints["prior"] == other.fingerprints["prior"]
    assert check(config).fingerprints["runtime"] == other.fingerprints["runtime"]  # the demo's is `auto`, and this is a CPU
    with pytest.raises(UserError, match=r"computes on a CPU, but the device is cuda; set `device: cpu`, or `runtime: auto`"):
        check_compiles("cuda")
