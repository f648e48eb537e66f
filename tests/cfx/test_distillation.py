"""Progressive distillation: targets known in closed form, what is written, what is refused."""

import json
import math
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel
from torch import Tensor, nn

from cfx.attributes.interventions import Interventions
from cfx.diffusion.ddpm import DDPM, Schedule, load_ddpm, save_ddpm
from cfx.diffusion.distillation import Distillation, ddim_step, distil, distillation_loss, practised, two_steps
from cfx.diffusion.training import PriorTraining, build_unet
from cfx.methods.maskdime import MaskDiME
from tasks.advice.prior_check import check_depth, check_edits
from tests.toys import GaussianNetwork, Says

VARIANCE = 0.25
UNCLIPPED = Schedule(prediction_type="sample", clip_sample=False)
SMALL = Distillation(steps=3, halvings=2, updates=3, batch=4, checkpoint_every=2)


def gaussian(steps: int) -> DDPM:
    """Exact for images of N(0, VARIANCE I), over so many steps."""
    return DDPM(GaussianNetwork(0.0, VARIANCE), UNCLIPPED, channels=3, steps=steps)


def spread(level: float) -> float:
    return math.sqrt(VARIANCE * level + 1 - level)


def test_many_ddim_steps_of_an_exact_prior_follow_its_path() -> None:
    # the probability-flow path of a Gaussian keeps z in proportion to the spread of its level: z / spread is constant
    prior, z = gaussian(1000), torch.linspace(-2, 2, 12).view(1, 3, 2, 2)
    start = z
    for t in range(600, 0, -1):
        z = ddim_step(prior, z, t, t - 1)
    ends = spread(float(prior.alphas_cumprod[0])) / spread(float(prior.alphas_cumprod[600]))
    torch.testing.assert_close(z, start * ends, atol=0, rtol=5e-3)


def test_one_step_to_the_target_is_two_of_the_teachers() -> None:
    teacher, student, z = gaussian(25), gaussian(13), torch.linspace(-2, 2, 12).view(1, 3, 2, 2)
    assert student.timesteps == teacher.timesteps[::2]
    ratio = 1.0  # of what is left of z after two steps, written out: z' = a' E[x0 | z] + s' (z - a E[x0 | z]) / s
    for t in (12, 11):
        level, after = float(teacher.alphas_cumprod[t]), float(teacher.alphas_cumprod[t - 1])
        estimate = VARIANCE * math.sqrt(level) / spread(level) ** 2
        noise = (1 - math.sqrt(level) * estimate) / math.sqrt(1 - level)
        ratio *= math.sqrt(after) * estimate + math.sqrt(1 - after) * noise
    target = two_steps(teacher, z, 12)
    begin, end = float(student.alphas_cumprod[6]), float(student.alphas_cumprod[5])
    one = math.sqrt(end) * target + math.sqrt(1 - end) * (z - math.sqrt(begin) * target) / math.sqrt(1 - begin)
    torch.testing.assert_close(one, ratio * z, atol=1e-5, rtol=1e-5)
    assert (two_steps(teacher, z, 0) - teacher.step(z, 0).x0).abs().max() == 0
    assert float((target - student.step(z, 6).x0).abs().max()) > 0.015  # which the teacher's own long step is not


class Answers(nn.Module):
    """Answers what it was given."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, z: Tensor, timesteps: Tensor) -> Tensor:
        return self.answer


def test_the_loss_is_none_at_the_target_and_grows_with_the_square() -> None:
    teacher, x = gaussian(25), torch.zeros(1, 3, 2, 2)
    level = float(teacher.alphas_cumprod[8])
    target = two_steps(teacher, math.sqrt(1 - level) * torch.ones_like(x), 8)
    losses = [
        float(
            distillation_loss(
                DDPM(Answers(target + off), UNCLIPPED, 3, steps=13, clip=False), teacher, x, 4, torch.ones_like(x), max_weight=20
            )
        )
        for off in (0.0, 0.1, 0.2)
    ]
    assert losses[0] == pytest.approx(0, abs=1e-10)
    assert losses[1] == pytest.approx(0.01 / (1 - level), rel=1e-4) and losses[2] == pytest.approx(4 * losses[1], rel=1e-4)


def test_predicted_variances_are_held_to_the_teachers() -> None:
    schedule, x = Schedule(), torch.zeros(2, 3, 2, 2)
    teacher = DDPM(Says(0.1, variance=0.0), schedule, 3, steps=5)
    losses = [
        float(distillation_loss(DDPM(Says(0.1, variance), schedule, 3, steps=3, clip=False), teacher, x, 0, x, 20.0))
        for variance in (0.0, 0.5)
    ]
    assert losses[1] - losses[0] == pytest.approx(0.25)


def test_which_levels_are_practised() -> None:
    counts = torch.tensor([practised(step, 32, 4) for step in range(6)]).flatten().bincount(minlength=4)
    assert counts[0] == 24 and counts[1:].sum() == 168 and counts[1:].max() - counts[1:].min() <= 6
    assert practised(3, 4, 1) == [0, 0, 0, 0]


def batches(step: int) -> Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(step)) * 2 - 1


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    unet = build_unet(PriorTraining(size=16, patch=2, channels=(32, 32)))
    save_ddpm(tmp_path / "teacher", unet, Schedule(prediction_type="sample"))
    return tmp_path / "teacher"


class Killed(RuntimeError):
    pass


def test_a_student_is_written_and_a_killed_distillation_goes_on(teacher: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    distil(batches, teacher, SMALL, tmp_path / "whole", lambda step, loss: losses.append(loss))
    assert len(losses) == 6 and all(math.isfinite(loss) for loss in losses)

    def kill(step: int, loss: float) -> None:
        if step == 5:  # after the checkpoint of step 4, the first of the second halving
            raise Killed

    with pytest.raises(Killed):
        distil(batches, teacher, SMALL, tmp_path / "killed", kill)
    with pytest.raises(ValueError, match="another configuration"):
        distil(batches, teacher, SMALL.model_copy(update={"seed": 1}), tmp_path / "killed")
    distil(batches, teacher, SMALL, tmp_path / "killed")
    whole, resumed, first = load_ddpm(tmp_path / "whole"), load_ddpm(tmp_path / "killed"), load_ddpm(teacher)
    weights, others = whole.network.state_dict(), resumed.network.state_dict()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], msg=name)
    assert any((weight != first.network.state_dict()[name]).any() for name, weight in weights.items())
    assert not (tmp_path / "killed" / "checkpoint.pt").exists()
    said = json.loads((tmp_path / "whole/scheduler/scheduler_config.json").read_text())
    assert said["distilled_steps"] == 3 and said["trained_timesteps"] == 500
    UNet2DModel.from_pretrained(tmp_path / "whole/unet")
    assert DDPMScheduler.from_pretrained(tmp_path / "whole/scheduler").config["prediction_type"] == "sample"


def test_a_student_walks_in_its_own_steps_only() -> None:
    student = DDPM(Says(0.0), Schedule(distilled_steps=7, trained_timesteps=501), channels=3)
    assert student.respaced(7).timesteps == [0, 166, 333, 500, 666, 832, 999]
    with pytest.raises(ValueError, match="distilled to 7 steps, .* in 25; set `steps: 7`"):
        student.respaced(25)
    with pytest.raises(ValueError, match="distilled to 7 steps"):
        check_depth((MaskDiME(steps=25, tau=9),), student)
    check_depth((MaskDiME(steps=7, tau=4),), student)
    with pytest.raises(ValueError, match="use tau 4 or less"):
        check_depth((MaskDiME(steps=7, tau=5),), student)


def test_edits_by_gradient_are_held_to_the_students_steps() -> None:
    student = DDPM(Says(0.0), Schedule(distilled_steps=7, trained_timesteps=501), channels=3)
    with pytest.raises(ValueError, match="distilled to 7 steps, .* in 50"):
        check_edits(Interventions(), student)
    check_edits(Interventions(images=0), student)
    check_edits(Interventions(steps=7, tau=3), student)
    with pytest.raises(ValueError, match="tau is 6 of 7, but the prior was trained to 4"):
        check_edits(Interventions(steps=7, tau=6), student)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 200, "halvings": 3}, "begin at 1593, but .* has 1000 steps; lower `halvings`"),
        ({"steps": 3, "deepest": 0.3}, "the first 300 of 1000 steps, and its second step lies at 500; raise `deepest`"),
    ],
)
def test_settings_that_do_not_fit_the_teacher_are_refused(
    teacher: Path, tmp_path: Path, changes: dict[str, float], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        distil(batches, teacher, Distillation(**changes), tmp_path / "student")
    with pytest.raises(ValueError, match="the teacher's own folder"):
        distil(batches, teacher, SMALL, teacher)


def test_a_student_teaches_only_from_its_own_steps(teacher: Path, tmp_path: Path) -> None:
    file = teacher / "scheduler/scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"distilled_steps": 13, "trained_timesteps": 500}))
    with pytest.raises(ValueError, match=r"distilled to 13 steps, but steps 7 halved 2 times begin at 25"):
        distil(batches, teacher, Distillation(steps=7), tmp_path / "student")
    FlowMatchEulerDiscreteScheduler().save_pretrained(teacher / "scheduler")
    with pytest.raises(ValueError, match="is a flow; distil a prior such as"):
        distil(batches, teacher, Distillation(), tmp_path / "student")
