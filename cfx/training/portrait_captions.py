"""Captions of portraits: what a face has and what it has not, in words. An absence is a phrase of its own: "without glasses"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from cfx.portraits import ATTRIBUTES

SUBJECTS = ("a person", "a face", "a portrait", "a photo of a person", "a photo of a face", "a portrait of a person")

# attribute -> how its presence and how its absence are said
PHRASES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        "smile": (("smiling", "with a smile"), ("not smiling", "without a smile")),
        "glasses": (("wearing glasses", "with glasses"), ("not wearing glasses", "without glasses")),
        "hat": (("wearing a hat", "with a hat"), ("not wearing a hat", "without a hat")),
        "beard": (("with a beard",), ("without a beard", "with no beard")),
        "dark_hair": (("with dark hair",), ("with blond hair", "without dark hair")),
        "long_hair": (("with long hair",), ("with short hair", "without long hair")),
        "rosy_cheeks": (("with rosy cheeks",), ("with pale cheeks", "without rosy cheeks")),
        "earrings": (("wearing studs", "with studs"), ("not wearing studs", "without studs")),
        "raised_brows": (("with raised eyebrows",), ("with relaxed eyebrows", "without raised eyebrows")),
        "warm_background": (("on a warm background",), ("on a cold background", "not on a warm background")),
    }
)


def caption(has: Mapping[str, bool], rng: np.random.Generator) -> str:
    """Says of each attribute in `has`, in any order, whether it is there: "a face with a hat without glasses"."""
    names = rng.permutation(list(has)).tolist()
    return " ".join([str(rng.choice(SUBJECTS)), *(str(rng.choice(PHRASES[name][0 if has[name] else 1])) for name in names)])


def prompts_of(attributes: Iterable[str] = ATTRIBUTES) -> dict[str, tuple[list[str], list[str]]]:
    """Positive and negative prompts of each attribute, every phrase once: what an oracle by words is given.

    Examples:
        >>> prompts_of(["beard"])
        {'beard': (['a person with a beard'], ['a person without a beard', 'a person with no beard'])}
    """
    return {name: _sentences(PHRASES[name]) for name in attributes}


def _sentences(phrases: tuple[Sequence[str], Sequence[str]]) -> tuple[list[str], list[str]]:
    said, denied = phrases
    return [f"a person {phrase}" for phrase in said], [f"a person {phrase}" for phrase in denied]


def vocabulary() -> list[str]:
    """Every word of the captions, each once."""
    texts = [*SUBJECTS, *(phrase for sides in PHRASES.values() for side in sides for phrase in side)]
    return list(dict.fromkeys(word for text in texts for word in text.split()))
