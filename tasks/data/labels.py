"""Labels of a table matched to the classes of a classifier, so that "right" means the same to both. What cannot be is refused."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from cfx.errors import UserError
from cfx.targets import shortened
from tasks.data.yes_or_no import MAYBE_NO, UNKNOWN, yes_or_no

Labels = Mapping[str, str | None]  # class by label; None for what counts as no label

YES, NO = ("yes", "true", "positive", "present", "1"), ("no", "false", "negative", "absent", "0")
NEGATION = re.compile(r"(?:not|no|non|without)_(.+)")


def match_labels(labels: Sequence[str], classes: Sequence[str], column: str | None, named: Labels) -> dict[str, str | None]:
    """The class of each label.

    named: what the user says of labels; it counts before all else. A label is the class of its name: the same text, else the
    same Unicode (NFC), else the same but for case, spaces, dashes and underscores, where that tells all classes apart; of two
    classes, not_smiling is the one that is not smiling. Yes and no of an attribute are the class called like the column and its
    negation (`Smiling`: smiling and not_smiling), or classes yes and no. NA, NaN, null and their like are no label, unless a
    class is called so.
    Raises UserError, with both lists and the ways out, unless every label has a class.
    """
    unknown = [f"{label}: {name}" for label, name in named.items() if name is not None and name not in classes]
    if unknown:
        raise UserError(f"labels: {shortened(unknown)} is no class of the classifier; its classes are {shortened(classes)}")
    here = {_folded(name) for name in classes}
    said: dict[str, str | None] = dict.fromkeys(UNKNOWN - MAYBE_NO - here)
    said |= {_folded(label): name for label, name in named.items()}
    left = [label for label in labels if _folded(label) not in said]
    matched = _by_name(left, classes) or _by_negation(left, classes) or _by_answer(left, classes, column or "")
    if not left:
        matched = {}
    if matched is None:
        raise UserError(_refusal(left, classes, column or ""))
    return {label: said.get(_folded(label), matched.get(label)) for label in labels}


def _by_name(labels: Sequence[str], classes: Sequence[str]) -> dict[str, str] | None:
    """Labels that are names of classes, or None if one is not."""
    alike: tuple[Callable[[str], str], ...] = (str, _composed, _folded)
    for form in alike:
        known = {form(name): name for name in classes}
        if len(known) == len(classes) and all(form(label) in known for label in labels):
            return {label: known[form(label)] for label in labels}
    return None


def _by_negation(labels: Sequence[str], classes: Sequence[str]) -> dict[str, str] | None:
    """Labels that are one of two classes, or its negation and so the other; None if one is neither."""
    if len(classes) != 2:
        return None
    known = {_folded(name): name for name in classes}
    other = dict(zip(known, reversed(known.values()), strict=True))
    found = {}
    for label in labels:
        negated = NEGATION.fullmatch(_folded(label))
        name = known.get(_folded(label)) or (other.get(negated[1]) if negated else None)
        if len(known) < 2 or name is None:
            return None
        found[label] = name
    return found


def _by_answer(labels: Sequence[str], classes: Sequence[str], column: str) -> dict[str, str] | None:
    """Labels that are yes and no, or None if they are not, or if the classes do not say which is which."""
    answers, pair = _answers(labels), _no_and_yes(classes, column)
    if answers is None or pair is None:
        return None
    return {label: pair[answer] for label, answer in answers.items()}


def _answers(labels: Sequence[str]) -> dict[str, bool] | None:
    """What these labels mean as answers, or None if they are none."""
    answers = yes_or_no(pa.chunked_array([pa.array(labels, pa.string())]))
    return None if answers is None or answers.null_count else dict(zip(labels, answers.to_pylist(), strict=True))


def _no_and_yes(classes: Sequence[str], column: str) -> tuple[str, str] | None:
    """Of two classes the one that "no" means and the one that "yes" means, or None if their names do not say."""
    if len(classes) != 2:
        return None
    for no, yes in (tuple(classes), (classes[1], classes[0])):
        negated = NEGATION.fullmatch(_folded(no))
        if _folded(no) in NO and _folded(yes) in (*YES, _folded(column)):
            return no, yes
        if negated is not None and negated[1] == _folded(yes) == _folded(column):
            return no, yes
    return None


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


def _folded(text: str) -> str:
    """Without what people do not see or mean: width, case, spaces, dashes, invisible characters, the .0 of a whole number."""
    seen = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf").strip()
    whole = re.sub(r"^(-?\d+)\.0+$", r"\1", seen)
    return re.sub(r"(?<=.)[\s_-]+", "_", unicodedata.normalize("NFC", whole.casefold()))


def _refusal(labels: Sequence[str], classes: Sequence[str], column: str) -> str:
    wrong = [label for label in labels if _by_name([label], classes) is None] or list(labels)
    order = classes[::-1] if _folded(classes[0]) == _folded(column) else classes  # of no and yes, where that is what they are
    answers = _answers(wrong) or {label: i > 0 for i, label in enumerate(wrong[:2])}
    example = ", ".join(f"{label}: {order[yes]}" for label, yes in answers.items())
    return (
        f"label_column: {column!r} holds {shortened([repr(label) for label in wrong])}, but the classifier's classes are "
        f"{shortened(classes)}. Say which label means which class, as in `data.labels: {{{example}}}` (null for no label); or "
        "name `classifier.classes` as the labels are, in the order of its outputs; or leave label_column out"
    )
