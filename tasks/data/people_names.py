"""What people call classes and attributes, the setting `labels`: checked before there is a report to be wrong in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from cfx.errors import ConfigError
from cfx.evidence.properties import FILE_FACTS, PROPERTIES
from warehouse.report.names import Names

SHOWN = 12  # names that an error lists


def check_people_names(labels: Mapping[str, str], known: Iterable[str]) -> None:
    """Raises ConfigError for a name that nothing has, one that is empty, and two names that people would read alike.

    known: the classes, the oracle's attributes and the annotated ones; properties of an image may be renamed, too.
    """
    names = tuple(dict.fromkeys(known))
    properties = (*PROPERTIES, *FILE_FACTS)
    for name, people in labels.items():
        if name not in names and name not in properties:
            close = get_close_matches(name, (*names, *properties), n=3)
            near = f"; near it: {', '.join(close)}" if close else ""
            there = f"{', '.join(names[:SHOWN])}{' …' if len(names) > SHOWN else ''}"
            raise ConfigError(f"labels: {name!r} is no class and no attribute of this audit{near}; there are {there}")
        if not people.strip():
            raise ConfigError(f"labels: {name!r} is given an empty name; leave the line out to show it as {Names()(name)!r}")
    read: dict[str, str] = {}
    for name in names:
        people = Names(labels)(name)
        other = read.setdefault(people.casefold(), name)
        if other != name and {name, other} & labels.keys():
            raise ConfigError(f"labels: people would read {other!r} and {name!r} alike, as {people!r}; give one another name")
