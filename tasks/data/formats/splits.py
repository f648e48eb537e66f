"""Which names are splits: only those that form a scheme, because a class may be called `test` or `valid` too."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from cfx.errors import UserError
from tasks.data.formats.remarks import listed
from tasks.data.formats.source import Source

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
BOTH = "--splits or --no-splits says which"


def split_named(word: str) -> str | None:
    """The split that a word means, or None."""
    return SPLITS.get(word.strip().lower())


def splits_of_files(names: Iterable[str], source: Source) -> dict[str, str | None]:
    """The split of each file, such as train-0000.tar: the word that its name begins with, or the name of a folder above it.

    Of all files or of none, unless `splits` is set.
    """
    found = {name: _split_of_file(name) for name in names} if source.choices.splits is not False else {}
    unnamed = [name for name in names if found.get(name) is None]
    if source.choices.splits is None and unnamed and len(unnamed) < len(found):
        source.remarks.say(f"no splits: {listed(unnamed)} is called after none; --splits takes those of the others")
        return dict.fromkeys(names)
    return {name: found.get(name) for name in names}


def _split_of_file(name: str) -> str | None:
    path = PurePosixPath(name)
    words = [re.split(r"[-_.]", path.name)[0], *reversed(path.parts[:-1])]
    return next((split for word in words if (split := split_named(word))), None)


def split_level(images: Iterable[str], source: Source) -> int | None:
    """Which folder of the images' paths is a split: 0 in split/class/x.png, 1 in class/split/x.png, None without splits.

    Folders at the top are splits where all are called so and hold folders of the same classes (or none, with a train among
    them). Raises UserError where they may be classes as well.
    """
    below = _folders(images)
    wanted, folder = source.choices.splits, source.folder
    splits = [top for top in below if split_named(top)]
    inner = [seconds - {""} for top, seconds in below.items() if split_named(top) and seconds - {""}]
    shared = set.intersection(*inner) if inner else set()
    if wanted is False:
        return None
    if wanted is None and not splits:
        return _inner_level(below, source)
    if wanted is True:
        if not splits and _inner_level(below, source) is None:
            raise UserError(f"--splits: no folder of {folder} is called after a split; it has {listed(sorted(below))}")
        return 0 if splits else 1
    if len(splits) == len(below):
        return _level_of_scheme(splits, inner, shared, source)
    if len(inner) > 1 and shared:
        others = listed(sorted(set(below) - set(splits)))
        raise UserError(f"{folder}: {listed(splits)} look like splits, {others} does not; {BOTH}, or move it elsewhere")
    return None


def _level_of_scheme(splits: list[str], inner: list[set[str]], shared: set[str], source: Source) -> int | None:
    """Of folders that are all called after splits."""
    if not inner:
        return 0 if "train" in map(split_named, splits) else None
    if not shared:
        examples = ", ".join(f"{top}/{sorted(classes)[0]}" for top, classes in zip(splits, inner, strict=False))
        raise UserError(f"{source.folder}: {listed(splits)} may be splits or classes, they share no folder ({examples}); {BOTH}")
    if partial := sorted(set.union(*inner) - shared):
        source.remarks.say(f"classes that not every split has: {listed(partial)}")
    return 0


def _inner_level(below: dict[str, set[str]], source: Source) -> int | None:
    """1 where every folder holds folders called after splits, a train among them."""
    words = [word for seconds in below.values() for word in seconds]
    if not words or not all(map(split_named, words)) or "train" not in map(split_named, words):
        return None
    return 1


def _folders(images: Iterable[str]) -> dict[str, set[str]]:
    """The folders below each folder at the top; "" where images lie in neither."""
    below: dict[str, set[str]] = defaultdict(set)
    for image in images:
        parts = image.split("/")[:-1]
        below[parts[0] if parts else ""].add(parts[1] if len(parts) > 1 else "")
    return dict(sorted(below.items()))
