"""`cfx reliance`: what a classifier of Portraits truly relies on."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from flows.terminal import escaped, out, user_errors


def reliance(
    weights: Annotated[list[str] | None, typer.Argument(help="classifiers; default: the bundled planted and clean twins")] = None,
    portraits: Annotated[int, typer.Option(min=1, help="portraits to render")] = 500,
) -> None:
    """The true reliance of a Portraits classifier on each attribute: render, toggle one attribute, render again, query both."""
    with user_errors():
        from tasks.training.portraits import reliance as measured

        chosen = weights or ["portraits:planted", "portraits:clean"]
        columns = [measured(name, portraits) for name in chosen]
    table = Table(
        "attribute", *chosen, title=f"mean change of P(smiling) when switched on, {portraits} portraits", title_justify="left"
    )
    for rows in zip(*columns, strict=True):
        table.add_row(escaped(rows[0].attribute), *(f"{row.effect:+.3f}" for row in rows))
    out.print(table)
