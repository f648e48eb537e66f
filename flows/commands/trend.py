"""`cfx trend`: an audit night after night, and what of tonight is an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from flows.run_names import complete_run, run_named
from flows.terminal import DEFAULT_WAREHOUSE, AsJson, Warehouse, escaped, out, print_json, print_table, user_errors

if TYPE_CHECKING:
    from warehouse.trend.alarms import Trend
    from warehouse.trend.changes import Change

NO_ALARM, ALARMS, NOTHING_TO_COMPARE = 0, 1, 3
HEIGHTS = "▁▂▃▄▅▆▇█"
SHOWN = 10  # of the last nights, as bars


def trend(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="AUDIT|RUN",
            help="name of an audit, for its newest run; or a run id, the beginning of one, or latest",
            autocompletion=complete_run,
        ),
    ],
    last: Annotated[int, typer.Option(min=1, help="nights before it that it is compared with")] = 30,
    against: Annotated[str | None, typer.Option(help="one run to compare with instead", autocompletion=complete_run)] = None,
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    as_json: AsJson = False,
) -> None:
    """Is tonight other than the nights before? Exit code 0: no alarm, 1: an alarm, 3: nothing to compare with (2: bad input).

    While nothing changes, at most one month of nights in twenty has an alarm, whatever is watched.
    """
    with user_errors():
        from warehouse.lens.runs import audits

        if subject not in audits(warehouse):
            subject = run_named(warehouse, subject)
        base = None if against is None else run_named(warehouse, against)
        from warehouse.trend.alarms import trend as compared  # after what can be refused at once

        found = compared(warehouse, subject, last, base)
    if as_json:
        print_json(for_machines(found))
    else:
        show(found)
    raise typer.Exit(ALARMS if found.alarms else NO_ALARM if found.references else NOTHING_TO_COMPARE)


def for_machines(found: Trend) -> dict[str, Any]:
    """Everything, as one JSON object."""
    names = ("audit", "run_id", "references", "level", "differing")
    alarms = [{**_row(one.change), "nights": one.nights, "since": one.since, "in_words": str(one)} for one in found.alarms]
    series = [
        {"kind": kind, "name": name, "class": target or None, "nights": rows}
        for (kind, name, target), rows in found.series.items()
    ]
    head = {name: getattr(found, name) for name in names}
    return head | {"alarms": alarms, "changes": [_row(change) for change in found.changes], "series": series}


def _row(change: Change) -> dict[str, Any]:
    row = asdict(change)
    return {"class" if name == "target" else name: value for name, value in row.items()}


def show(found: Trend) -> None:
    """Every quantity over its nights, what has changed, and the alarms in words."""
    if not found.references:
        out.print(
            f"{escaped(found.run_id)} is the first night of {escaped(found.audit)}: there is nothing to compare it with",
            soft_wrap=True,
        )
        return
    compared = found.references[0] if len(found.references) == 1 else f"{len(found.references)} nights before"
    out.print(f"{escaped(found.run_id)} against {escaped(compared)}", soft_wrap=True)
    means, distances = ([change for change in found.changes if (change.p is None) is known] for known in (True, False))
    if means:
        print_table(changes_table(found, means))
    if distances:
        print_table(drift_table(distances))
    if not found.changes:
        out.print("too few images on either side: nothing can be compared", soft_wrap=True)
    if found.differing:
        out.print(f"other than in {escaped(found.references[-1])}: {escaped(', '.join(found.differing))}", soft_wrap=True)
    for alarm in found.alarms:
        out.print(f"[red]alarm[/] {escaped(str(alarm))}", soft_wrap=True)
    if not found.alarms:
        out.print("[green]no alarm[/]")


def changes_table(found: Trend, means: Sequence[Change]) -> Table:
    """What the classifier does, with the interval of the change; of the images, how many were audited before."""
    table = Table("", "earlier", "tonight", "change", "images", "nights")
    for one in means:
        moved = f"{one.change:+.2f} ({one.low:+.2f} to {one.high:+.2f})"
        rows = sorted(found.series[one.key], key=lambda row: row["run_id"] == found.run_id)  # tonight last, after an older base
        nights = bars([row["value"] for row in rows][-SHOWN:])
        table.add_row(_name(one), f"{one.earlier:.2f}", f"{one.tonight:.2f}", moved, f"{one.n} ({one.common})", nights)
    return table


def drift_table(distances: Sequence[Change]) -> Table:
    """What the images are like: distances of two distributions."""
    table = Table("new images", "earlier", "tonight", "distance", "p", "images")
    for one in distances:
        means = ("" if value is None else f"{value:.3g}" for value in (one.earlier, one.tonight))
        table.add_row(_name(one), *means, f"{one.change:.2f}", f"{one.p:.2g}", str(one.n))
    return table


def _name(change: Change) -> str:
    short = escaped(change.subject.removeprefix("effect of ").removesuffix(" of the images"))
    return f"[red]{short}[/]" if change.alarm else short


def bars(values: Sequence[float]) -> str:
    """A line of bars, from the lowest value to the highest.

    Examples:
        >>> bars([0.0, 0.5, 1.0]), bars([0.2, 0.2])
        ('▁▅█', '▁▁')
    """
    if not values:
        return ""
    low, span = min(values), max(values) - min(values)
    return "".join(HEIGHTS[round((len(HEIGHTS) - 1) * (value - low) / span) if span else 0] for value in values)
