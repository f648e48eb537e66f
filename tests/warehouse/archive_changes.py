"""Random changes of an archive, by seed: of bytes, words and whole files, and of the zip around them; some with new checksums."""

from __future__ import annotations

import random
import re
import zipfile
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

Files: TypeAlias = dict[str, bytes]
Named: TypeAlias = set[str]  # the files of which one has to be named; the archive itself, as archive.zip
ARCHIVE = "archive.zip"
_TEXTS = (".html", ".md", ".json", ".yaml", ".sha256", "SUMS", "SIGNATURE")


def changed(archive: Path, seed: int) -> tuple[bytes, Named, str]:
    """The bytes of the archive with one change; what has to be named; and what was changed, for a person."""
    rng = random.Random(seed)
    if rng.random() < 0.2:
        kind = rng.choice(_ON_ZIPS)
        data, named = kind(rng, archive)
        return data, named | {ARCHIVE}, kind.__name__
    files = read(archive)
    kind_of_file = rng.choice(_ON_FILES)
    named = kind_of_file(rng, files)
    as_they_were = dict(files)
    if rng.random() < 0.5:
        recompute(files)
    if files == read(archive):  # the change was one of the sums
        files = as_they_were
    sums_too = files != as_they_were
    return zipped(files), named, f"{kind_of_file.__name__} {sorted(named)}{' with new sums' if sums_too else ''}"


def read(archive: Path) -> Files:
    with zipfile.ZipFile(archive) as found:
        return {name: found.read(name) for name in found.namelist()}


def zipped(files: Files) -> bytes:
    """As `cfx export` does it, so that nothing but the files differs."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(_entry(name), data)
    return file.getvalue()


def recompute(files: Files) -> None:
    """Write both lists of checksums anew, as whoever changes an archive would."""
    for listed in [name for name in files if name.endswith(".sha256")]:
        of = [name for name in files if name.startswith("facts/") or name == listed.replace(".sha256", ".html")]
        files[listed] = _sums(files, of)
    if "SHA256SUMS" in files:
        files["SHA256SUMS"] = _sums(files, [name for name in files if name not in ("SHA256SUMS", "SIGNATURE")])


def _sums(files: Files, names: list[str]) -> bytes:
    return "".join(f"{sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(names)).encode()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    return entry


def bit(rng: random.Random, files: Files) -> Named:
    name = rng.choice(sorted(files))
    data = bytearray(files[name])
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    files[name] = bytes(data)
    return {name}


def byte_more(rng: random.Random, files: Files) -> Named:
    name = rng.choice(sorted(files))
    at = rng.randrange(len(files[name]) + 1)
    files[name] = files[name][:at] + rng.randbytes(1) + files[name][at:]
    return {name}


def byte_less(rng: random.Random, files: Files) -> Named:
    name = rng.choice(sorted(files))
    at = rng.randrange(len(files[name]))
    files[name] = files[name][:at] + files[name][at + 1 :]
    return {name}


def _replaced(rng: random.Random, files: Files, pattern: str, new: Callable[[str], str]) -> Named:
    """One place of a text that matches is other."""
    texts = [name for name in sorted(files) if name.endswith(_TEXTS) and re.search(pattern, files[name].decode())]
    name = rng.choice(texts)
    text = files[name].decode()
    place = rng.choice(list(re.finditer(pattern, text)))
    assert new(place[0]) != place[0]
    files[name] = (text[: place.start()] + new(place[0]) + text[place.end() :]).encode()
    return {name}


def digit(rng: random.Random, files: Files) -> Named:
    return _replaced(rng, files, r"\d", lambda old: str((int(old) + rng.randint(1, 9)) % 10))


def word(rng: random.Random, files: Files) -> Named:
    return _replaced(rng, files, r"\b[a-z]{4,}\b", lambda old: "clear" if old != "clear" else "confirmed")


def verdict(rng: random.Random, files: Files) -> Named:
    return _replaced(rng, files, r"(?i)confirmed|inconclusive|blocked|fail(ed)?\b", lambda _: "clear")


def space(rng: random.Random, files: Files) -> Named:
    return _replaced(rng, files, r"\n", lambda old: "\n\n")


def script(rng: random.Random, files: Files) -> Named:
    return _replaced(rng, files, r"</head>|</body>|\n## ", lambda old: f"<script>alert(1)</script>{old}")


def file_more(rng: random.Random, files: Files) -> Named:
    shard = rng.choice([name for name in sorted(files) if name.startswith("facts/")])
    another = shard.replace(".parquet", "x.parquet")
    name = rng.choice(["setup.py", "reports/other.html", "facts/evil.parquet", "figures/a.png", another])
    files[name] = files[shard]
    return {name}


def file_less(rng: random.Random, files: Files) -> Named:
    name = rng.choice(sorted(files))
    del files[name]
    return {name, ARCHIVE} if name.startswith("reports/") else {name}


def file_renamed(rng: random.Random, files: Files) -> Named:
    name = rng.choice(sorted(files))
    new = re.sub(r"(\w)(\.\w+)?$", lambda end: f"{chr(ord(end[1]) ^ 1)}{end[2] or ''}", name)
    assert new not in files
    files[new] = files.pop(name)
    return {name, new}


def shard_of_another_run(rng: random.Random, files: Files) -> Named:
    """A whole fact, with its seal, in the place of another of the same kind."""
    shards = [name for name in sorted(files) if name.startswith("facts/")]
    pairs = [(a, b) for a in shards for b in shards if a.split("/")[1] == b.split("/")[1] and files[a] != files[b]]
    a, b = rng.choice(pairs)
    files[a] = files[b]
    return {a}


def raw_bit(rng: random.Random, archive: Path) -> tuple[bytes, Named]:
    data = bytearray(archive.read_bytes())
    at = rng.randrange(len(data))
    data[at] ^= 1 << rng.randrange(8)
    with zipfile.ZipFile(archive) as found:
        holds = [entry.filename for entry in found.infolist() if entry.header_offset <= at]
    return bytes(data), {*holds[-1:]} if at < found.start_dir else set(read(archive))


def after_the_end(rng: random.Random, archive: Path) -> tuple[bytes, Named]:
    return archive.read_bytes() + rng.randbytes(rng.randint(1, 40)), set()


def before_the_start(rng: random.Random, archive: Path) -> tuple[bytes, Named]:
    return rng.randbytes(rng.randint(1, 40)) + archive.read_bytes(), {"README.md"}


def comment(rng: random.Random, archive: Path) -> tuple[bytes, Named]:
    file = BytesIO(archive.read_bytes())
    with zipfile.ZipFile(file, "a") as found:
        found.comment = rng.randbytes(9)
    return file.getvalue(), set()


def same_name_twice(rng: random.Random, archive: Path) -> tuple[bytes, Named]:
    import warnings

    file, name = BytesIO(archive.read_bytes()), rng.choice(sorted(read(archive)))
    with zipfile.ZipFile(file, "a") as found, warnings.catch_warnings(action="ignore"):
        found.writestr(_entry(name), b"another")
    return file.getvalue(), {name}


def another_form(rng: random.Random, archive: Path) -> tuple[bytes, Named]:
    """The same files: one deflated, of another time, mode or system, with a note, or in another order."""
    files, file = read(archive), BytesIO()
    names = sorted(files)
    other, how = rng.choice(names), rng.randrange(6)
    if how == 5:
        names.append(names.pop(names.index(other) - 1))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as found:
        for name in names:
            entry = _entry(name)
            if name == other:
                entry.compress_type = zipfile.ZIP_DEFLATED if how == 0 else zipfile.ZIP_STORED
                entry.date_time = (2026, 1, 1, 0, 0, 0) if how == 1 else entry.date_time
                entry.external_attr = 0o777 << 16 if how == 2 else entry.external_attr
                entry.create_system = 0 if how == 3 else entry.create_system
                entry.comment = b"note" if how == 4 else b""
            found.writestr(entry, files[name])
    return file.getvalue(), set(names)


_ON_FILES = (
    *(bit, byte_more, byte_less, digit, word, verdict, space, script),
    *(file_more, file_less, file_renamed, shard_of_another_run),
)
_ON_ZIPS = (raw_bit, raw_bit, raw_bit, after_the_end, before_the_start, comment, same_name_twice, another_form)
