"""What an audit learns before it explains: its prior, the nearest classes, and networks that stand in for a black box."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cfx.classifiers import ClassifierConfig
from cfx.diffusion.training import PriorTraining
from cfx.errors import UserError
from cfx.nearest import Nearest
from tasks.advice.prior_fit import WITHOUT, check_fit, described, survival
from tasks.run import Run
from tasks.shard_images import pixels
from tasks.stages.autoencoders import trained_autoencoders
from tasks.stages.nearest_classes import nearest_classes
from tasks.stages.prior import ensure_prior
from tasks.stages.prompts import learned_prompts
from tasks.stages.surrogate import trained_surrogate
from warehouse.facts.shards import Shard

_log = logging.getLogger("cfx.stages")


@dataclass(frozen=True)
class Learned:
    """Where what was learned is; none where the configuration does not ask for it."""

    nearest: Nearest | None = None  # for each class its nearest ones
    surrogate: Path | None = None
    prompts: Path | None = None  # the folder of TIME's words
    autoencoders: Path | None = None
    editor: Path | None = None  # trained once the ladder has explained its examples


def needs_predictions(run: Run) -> bool:
    """Whether anything is learned from what the classifier says of all images."""
    config = run.config
    learned = (config.surrogate, config.words, config.measures.autoencoders)
    return config.target == "most-confused" or any(part is not None for part in learned)


def learn(run: Run, images: Sequence[Shard], predicted: Sequence[Shard]) -> Learned:
    """Learn what the configuration asks for, unless it is there. `predicted` may be empty where nothing needs it."""
    if run.prior is not None and run.config.prior is not None:
        ensure_prior(run.prior, run.config.prior, lambda: pixels(images), run.device)
        if run.config.prior.train is not None:
            _check_trained(run, run.config.prior.train)
    return Learned(
        nearest_classes(run, images, predicted),
        trained_surrogate(run, images, predicted),
        learned_prompts(run, images, predicted),
        trained_autoencoders(run, images, predicted),
    )


def _check_trained(run: Run, training: PriorTraining) -> None:
    """What `tasks.check` asks of a prior that was there before. Raises UserError if this one learned too little."""
    asked = run.classifier() if isinstance(run.config.classifier, ClassifierConfig) else None
    found = survival(run.denoiser(), asked, run.config.data, run.config.ladder, run.device)
    if found is not None and (found.misfit or found.lost):
        raise UserError(
            f"prior: {training.steps} steps taught it too little of these images: {described(found, run.config.ladder)}. Raise "
            f"`prior.train.steps`; with `start: {run.prior}` the training goes on from here. {WITHOUT}"
        )
    for warning in check_fit(found, run.config.ladder):
        _log.warning(warning)
