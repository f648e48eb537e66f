"""Whether images are made smaller than what the classifier sees, and enlarged again: it would see them blurred."""

from __future__ import annotations

from cfx.classifiers import BlackBox, TorchClassifier
from cfx.images import height_and_width
from cfx.types import Classifier
from tasks.data.ingest import DataConfig, sides

TRIED = 8  # files whose size is looked at
LOST = 1.25  # times as many pixels a side as `data.size` leaves: from here on what is lost shows


def blur_warnings(classifier: Classifier, config: DataConfig) -> tuple[str, ...]:
    """What to say of a `data.size` that costs detail that both the files and the classifier's input have."""
    seen, crop = _seen(classifier)
    if seen is None:
        return ()
    kept, wanted = min(height_and_width(config.size)), round(seen / crop)
    files = sorted(sides(config, TRIED))
    there = files[len(files) // 2]
    if min(wanted, there) < LOST * kept:
        return ()
    part = f" (the central {crop:.1%} of the side)" if crop < 1 else ""
    return (
        f"it sees {seen} px a side{part} and most files have {there} or more, but `data.size` makes them {kept} and they are "
        f"enlarged again: it sees them blurred; set `data.size: {wanted}`",
    )


def _seen(classifier: Classifier) -> tuple[int | None, float]:
    """Pixels of the shorter side that a classifier sees, None where it takes what it is given, and the share of the image."""
    if isinstance(classifier, TorchClassifier):
        return classifier.network.input_size, classifier.network.crop
    if not isinstance(classifier, BlackBox):
        return None, 1.0
    size = classifier.config.image.size
    return (min(size) if isinstance(size, tuple) else size), classifier.config.image.crop
