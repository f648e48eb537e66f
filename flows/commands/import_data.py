"""`cfx import-data`: a published data set becomes the table that an audit reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.train import keys_of
from flows.options import taking
from flows.terminal import AsJson, escaped, out, print_json, user_errors

if TYPE_CHECKING:
    from tasks.data.formats import Written


@dataclass(frozen=True)
class ImportOptions:
    """Options of the command."""

    form: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="celeba, celeba-hq, bdd100k, bdd-oia, imagefolder, parquet, huggingface or webdataset",
        ),
    ]
    folder: Annotated[str, typer.Argument(help="the folder that it was unpacked into, or a URL such as s3://bucket/prefix")]
    to: Annotated[Path, typer.Option("--out", "-o", help="the table, .parquet")]
    image_key: Annotated[
        str | None,
        typer.Option(
            help="which image of a sample counts: jpg, input.png, or a column; several, parted by commas: the first there"
        ),
    ] = None
    label_key: Annotated[str | None, typer.Option(help="webdataset: which member of a sample is its label; default: cls")] = None
    splits: Annotated[
        bool | None,
        typer.Option("--splits/--no-splits", help="whether train, test, … are splits or classes; default: splits in a scheme"),
    ] = None
    as_json: AsJson = False


@taking(ImportOptions)
def import_data(options: ImportOptions) -> None:
    """List the images of a data set, with their splits, labels and yes/no attributes, for `data:` of an audit."""
    with user_errors():
        from tasks.data.formats import Choices, table_of
        from warehouse.facts.storage import warehouse_at

        choices = Choices(keys_of(options.image_key), options.label_key, options.splits)
        written = table_of(options.form, warehouse_at(options.folder), options.to, choices)
    if options.as_json:
        print_json(_found(written, options))
        return
    _show(written, options)


def _found(written: Written, options: ImportOptions) -> dict[str, object]:
    left_out = [reason._asdict() for reason in written.left_out]
    return {"table": str(options.to)} | written._asdict() | {"left_out": left_out}


def _show(written: Written, options: ImportOptions) -> None:
    out.print(f"{written.rows:,} images: {escaped(str(options.to))}", soft_wrap=True)
    out.print(f"columns: {escaped(', '.join(written.columns))}", soft_wrap=True)
    for line in written.remarks:
        out.print(escaped(line), soft_wrap=True)
    for reason in written.left_out:
        out.print(escaped(f"left out: {reason}"), soft_wrap=True)
    split = ", split_column: split" if "split" in written.columns else ""
    out.print(escaped(f"data: {{images: {options.folder}, table: {options.to}{split}, label_column: …}}"), soft_wrap=True)
