"""Whether prior and classifier get along."""

import pytest

from cfx.diffusion.ddpm import DDPM, Schedule
from cfx.methods.ace import ACE
from cfx.methods.dime import DiME
from cfx.methods.svce import SVCE
from tasks.sanity import check_depth
from tests.toys import Says

BDD = DDPM(Says(0.0), Schedule(trained_timesteps=250), channels=3)


def test_a_start_beyond_the_trained_steps_is_refused() -> None:
    check_depth((DiME(steps=200, tau=45), DiME(steps=200, tau=45, exact_start=False)), BDD)  # step 221, as published
    check_depth((ACE(steps=100, tau=5),), BDD)
    with pytest.raises(ValueError, match="tau 60 of 200 starts at step 296 of 1000, .* first 250 only; use tau 50 or less"):
        check_depth((DiME(steps=200, tau=60),), BDD)
    check_depth((DiME(steps=200, tau=50),), BDD)
    with pytest.raises(ValueError, match="use tau 50 or less"):
        check_depth((DiME(steps=200, tau=51),), BDD)
    check_depth((DiME(steps=200, tau=60),), DDPM(Says(0.0), Schedule(), channels=3))
    check_depth((SVCE(),), BDD)  # takes no prior
