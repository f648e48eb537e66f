"""WebDataset: tars in which the files of one sample lie side by side, named alike up to the first dot."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
from pydantic_core import from_json

from cfx.errors import UserError
from cfx.images import HEAD, SUFFIXES, is_image
from tasks.data.files import Tar, names_below, suffix_of, unfit, walk
from tasks.data.formats.folders import BATCH, TEXTS
from tasks.data.formats.metadata import plain_text
from tasks.data.formats.samples import chosen, sample_of_member
from tasks.data.formats.source import Source
from tasks.data.formats.splits import splits_of_files

LABELS = ("cls", "cls.txt")
_OURS = ("file", "split", "label")
Row = dict[str, str | None]


@dataclass
class Sample:
    """The members of a tar that belong together."""

    name: str
    images: dict[str, str] = field(default_factory=dict)  # by key
    label: str | None = None
    fields: Row = field(default_factory=dict)  # of its JSON


def tars(source: Source) -> Iterator[pa.Table]:
    """A row a sample that has an image.

    `label` is its .cls, or the member `label_key`; the plain values of its .json are columns of their own. Columns are those of
    the first BATCH samples. The split is what a tar's name begins with, or its folder's is. Raises UserError for samples of
    several images, and for tars whose samples do not lie side by side or are there twice.
    """
    names: list[str] | None = None
    batch: list[Row] = []
    held = [name for name in names_below(source.folder, source.remarks.leave_out) if _is_tar(name, source)]
    splits = splits_of_files(held, source)
    tally = Counter[str]()  # samples that have a label, a text
    for name in held:
        for row in _rows(name, splits[name], source, tally):
            batch.append(row)
            if len(batch) == BATCH:
                names = names or _columns(batch)
                yield _table(batch, names, source)
                batch = []
    if batch:
        yield _table(batch, names or _columns(batch), source)
    _describe(tally, source)


def _is_tar(name: str, source: Source) -> bool:
    if name.endswith(".tar"):
        return True
    compressed = name.endswith((".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz"))
    source.remarks.leave_out(name, "compressed, to be unpacked to .tar" if compressed else "no .tar file")
    return False


def _columns(batch: list[Row]) -> list[str]:
    return [name for name in dict.fromkeys(key for row in batch for key in row) if name not in _OURS]


def _table(batch: list[Row], names: list[str], source: Source) -> pa.Table:
    for late in {key for row in batch for key in row}.difference(names, _OURS):
        source.remarks.say(f"the field {late!r} is in no .json of the first {BATCH:,} samples and is left out")
    return pa.table({name: pa.array([row.get(name) for row in batch], pa.string()) for name in (*_OURS, *names)})


def _rows(name: str, split: str | None, source: Source, tally: Counter[str]) -> Iterator[Row]:
    try:
        for sample in _samples(name, source, tally):
            image = chosen(f"{name}/{sample.name}", sample.images, source.choices.image_key)
            if image is None:
                source.remarks.leave_out(
                    f"{name}/{sample.name}", "samples without that image" if sample.images else "without image"
                )
                continue
            tally["label"] += sample.label is not None
            yield {**sample.fields, "file": f"{name}/{image}", "split": split, "label": sample.label}
    except tarfile.TarError as error:
        raise UserError(f"{source.folder / name} cannot be read: {error}") from error


def _samples(name: str, source: Source, tally: Counter[str]) -> Iterator[Sample]:
    """The samples of one tar, in its order; what is broken off at its end is left out here and refused when it is read."""
    sample, done = None, set[str]()
    with (source.folder / name).open("rb") as file, Tar.open(fileobj=file, mode="r:") as tar:
        for member in walk(tar):
            if (reason := unfit(member.name.removeprefix("./"))) is not None:
                source.remarks.leave_out(f"{name}/{member.name}", reason)
                continue
            own, key, _ = sample_of_member(member.name)
            if sample is None or own != sample.name:
                if sample is not None:
                    yield sample
                if own in done:
                    raise UserError(
                        f"{source.folder / name}: the sample {own!r} is there twice, or its members do not lie side by side; "
                        "make the tar of files sorted by name"
                    )
                done.add(own)
                sample = Sample(own)
            _add(sample, key, tar, member, source, tally)
    if sample is not None:
        yield sample


def _add(sample: Sample, key: str, tar: Tar, member: tarfile.TarInfo, source: Source, tally: Counter[str]) -> None:
    """Take one member into its sample. Raises UserError for a member that is there twice, and for JSON that is none."""
    wanted = (source.choices.label_key,) if source.choices.label_key else LABELS
    if key in wanted:
        sample.label = _content(tar, member).decode("utf-8-sig", "replace").strip() or sample.label
    elif _is_image(tar, member):
        if key in sample.images:
            raise UserError(f"{source.folder}: the sample {sample.name!r} has two images {key!r}; keep one of them")
        sample.images[key] = member.name
    elif key == "json":
        sample.fields = _fields(_content(tar, member), member.name, source)
    elif key == "txt":
        tally["text"] += 1


def _is_image(tar: Tar, member: tarfile.TarInfo) -> bool:
    ending = suffix_of(member.name)
    return ending in SUFFIXES or (ending not in TEXTS and is_image(_content(tar, member, HEAD)))


def _content(tar: Tar, member: tarfile.TarInfo, most: int = -1) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read(most)


def _fields(content: bytes, member: str, source: Source) -> Row:
    """The plain values of a sample's JSON; those called as columns of ours keep their values under json_<name>."""
    try:
        fields = from_json(content)
    except ValueError as error:
        raise UserError(f"{source.folder}: {member} is no JSON: {error}") from error
    if not isinstance(fields, dict):
        source.remarks.leave_out(member, ".json that hold no object")
        return {}
    return {f"json_{key}" if key in _OURS else key: plain_text(value) for key, value in fields.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float)


def _describe(tally: Counter[str], source: Source) -> None:
    """Say what became of labels. Raises UserError for a `label_key` that no sample has."""
    key = source.choices.label_key
    if key and not tally["label"]:
        raise UserError(f"--label-key: no sample of {source.folder} has a member {key!r}, such as 0001.{key}")
    if not key and not tally["label"] and tally["text"]:
        source.remarks.say("no sample has a .cls, so label is empty; --label-key txt takes the .txt, if these are class names")
