"""What is imported, and what the user chose where a data set can be read in more than one way."""

from __future__ import annotations

from typing import NamedTuple

from tasks.data.formats.remarks import Remarks
from warehouse.facts.storage import Root


class Choices(NamedTuple):
    """Settings of an import."""

    image_key: tuple[str, ...] = ()  # the member of a sample that is its image: what follows its name, or a column
    label_key: str | None = None  # the member that is its label
    splits: bool | None = None  # whether names such as train and test are splits; None: where they form a scheme


class Source(NamedTuple):
    """A folder to import."""

    folder: Root
    choices: Choices
    remarks: Remarks
