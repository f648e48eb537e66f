"""Whether a prior fits the images and the classifier: what becomes of some images that it noises and denoises?

It does not fit if it gives the images back worse than it must, or in other colours. A perfect prior draws one of the images that
the noised one may come from, and so errs sqrt(2) times as much as the best estimate (two draws of the same distribution). No best
estimate is worse than a plain blur, which knows nothing of images. Hence LIMIT, with some room for 8 images; and the same for
colours, which such a draw has right and a blur has not.

Mean |F(x) - x| on 8 images, as a share of what the best blur leaves, at tau 1 to 30 of 50 steps:

- the bundled prior on Portraits .42 to .66 (1.4 at tau 1, where both leave .01: hence FLOOR), at tau 46 still .72
- on scikit-image's photographs 1.8 to 5.0, on colour gradients 1.9 to 22, on uniform noise 2.3 down to 1.1: of nothing but noise,
  nothing can be said once it is noised

Tried only afterwards: scikit-learn's digits 4.1 to 8.1, textures and a page of text 1.6 to 1.9, silhouettes 2.7 to 4.1, negatives
of Portraits 2.2 to 3.1; Portraits darker or mirrored .43 to .63, with each shortcut of `tasks.training.unnamed` .40 to .79; a
prior of digits .27 to .51 on digits, 1.8 to 3.7 on Portraits down to tau 18, 1.4 at tau 35. Not noticed: Portraits with blue for
red, .8 to 1.04. `tests/cases/test_prior_fit.py` tries the first of these again.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cfx.diffusion.ddpm import DDPM
from cfx.errors import UserError
from cfx.methods.time_edit import TIME
from cfx.own_size import AtOwnSize, resized
from cfx.random import ImageNoise
from cfx.reconstruction import Change, best_blur, change, there_and_back
from cfx.types import Classifier
from tasks.config import Ladder
from tasks.data.ingest import DataConfig, sample
from tasks.shard_images import Images

TRIED, AGAIN = 8, 32  # images of the audit's own, for `survival`, and where most of their predictions are lost
SEED = 0
LIMIT = 1.5  # times what a blur leaves
FLOOR = 0.03  # of the range: what nobody sees is no misfit
MOST, NOTHING = 0.5, 1 / 8  # shares of predictions kept
TRAIN = "`prior: {train: {}}`"
WITHOUT = "Without one (`prior: null`) there is evidence, but no counterfactual"


class Filtered(NamedTuple):
    """What noising and denoising alone, F, does to some images."""

    kept: float | None  # share of the predictions that are the same afterwards; none without a classifier
    chance: float  # the share that would be, if F(x) were of any image: from how often each class is predicted before and after
    change: Change  # of F(x) from x
    blurred: Change  # of the best plain blur of the noised x from x
    n: int  # images

    @property
    def misfit(self) -> bool:
        """Whether pixels or colours visibly change more than they must; also where they are not finite."""
        return not all(moved <= max(FLOOR, LIMIT * plain) for moved, plain in zip(self.change, self.blurred, strict=True))

    @property
    def close(self) -> bool:
        """Whether the images come back closer than any blur would bring them."""
        return self.change.distance < self.blurred.distance

    @property
    def lost(self) -> bool:
        """Whether hardly a prediction survives, or, of enough images that do not come back, no more than by chance.

        Of images that do, the classifier is the reason: one that reads JPEG's traces answers otherwise once they are redrawn, and
        must be audited all the same.
        """
        if self.kept is None:
            return False
        by_chance = self.n >= AGAIN and self.kept < MOST and self.kept <= self.chance
        return self.kept <= NOTHING or (by_chance and not self.close)


@torch.no_grad()
def filtered(prior: DDPM, classifier: Classifier | None, images: Images, steps: int, tau: int) -> Filtered:
    """F noises images to step tau - 1 of `steps` and denoises them without guidance, at the size that the prior draws. tau UNet
    evaluations an image."""
    x, denoiser = images.x, prior.respaced(steps)
    size = prior.drawn_size(x.shape[-2], x.shape[-1])
    copies = x if size is None else resized(x, size)
    parts = [copies[i : i + TRIED] for i in range(0, len(x), TRIED)]
    ids = [images.ids[i : i + TRIED] for i in range(0, len(x), TRIED)]
    found = [there_and_back(denoiser, part, ImageNoise.of(names, SEED), tau) for part, names in zip(parts, ids, strict=True)]
    z, back = (torch.cat(one) for one in zip(*found, strict=True))
    kept, chance = None, 0.0
    if classifier is not None:
        shown = classifier if size is None else AtOwnSize(classifier, x, copies)
        kept, chance = agreement(classifier(x), shown(back))
    return Filtered(kept, chance, change(copies, back), best_blur(denoiser, copies, z, tau), len(x))


def agreement(before: Tensor, after: Tensor) -> tuple[float, float]:
    """From two sets of logits (N, K): the share of equal predictions, and what it would be if they had nothing to do with each
    other, from how often each class is predicted."""
    first, second = before.argmax(1), after.argmax(1)
    often = [torch.bincount(found, minlength=before.shape[1]) / len(found) for found in (first, second)]
    return float((first == second).float().mean()), float(often[0] @ often[1])


def survival(
    prior: DDPM, classifier: Classifier | None, data: DataConfig, ladder: Ladder, device: str = "cpu"
) -> Filtered | None:
    """F at the depth of the ladder's first rung, on a few of the audit's images; none for a method that adds no noise.

    Without a classifier, what becomes of the images only.
    """
    tau = getattr(ladder[0], "tau", None)
    if tau is None or isinstance(ladder[0], TIME):
        return None
    for n in (TRIED, AGAIN):  # of 8 too few are kept now and then by bad luck
        images = sample(data, n)
        found = filtered(prior, classifier, Images(images.ids, images.x.to(device)), ladder[0].steps, tau)
        if found.kept is None or found.kept >= MOST or found.misfit:
            break
    return found


def check_fit(found: Filtered | None, ladder: Ladder) -> tuple[str, ...]:
    """A warning when most predictions are lost: explanations then start from something else than what was classified.

    Raises UserError, with the numbers and the way out, for a prior that does not fit these images, and where no more predictions
    survive than by chance.
    """
    if found is None:
        return ()
    if found.misfit:
        raise UserError(
            f"it does not fit these images: {described(found, ladder)}. Train one on these images ({TRAIN}) or import it with "
            f"the arguments that it was trained with. {WITHOUT}"
        )
    if found.lost:
        raise UserError(
            f"hardly a prediction survives it, or no more than by chance ({found.chance:.0%}): {described(found, ladder)}. "
            f"Lower tau (`cfx calibrate` finds one), or train a prior on these images ({TRAIN}). {WITHOUT}"
        )
    if found.kept is None or found.kept >= MOST:
        return ()
    if found.close:
        return (
            f"prior: most predictions are lost, though images come back: {described(found, ladder)}. Either tau is too deep "
            "(`cfx calibrate` finds one), or the classifier answers otherwise as soon as an image is redrawn (without its grain "
            "or JPEG's traces, say): then probes and transplants tell more than explanations and edits",
        )
    return (
        f"prior: most predictions are lost: {described(found, ladder)}. Either tau is too deep (`cfx calibrate` finds one), or "
        "the prior does not fit: trained on other images, or imported with other arguments than it was trained with",
    )


def described(found: Filtered, ladder: Ladder) -> str:
    kept = "" if found.kept is None else f"{found.kept:.0%} of {found.n} images keep their prediction, and "
    (distance, colours), (plain, plain_colours) = found.change, found.blurred
    return (
        f"noising to tau {getattr(ladder[0], 'tau', None)} of {ladder[0].steps} and denoising, without guidance, {kept}pixels "
        f"change by {distance:.3f} on [0, 1], colours by {colours:.3f} (by a plain blur of the noised images: {plain:.3f} and "
        f"{plain_colours:.3f})"
    )
