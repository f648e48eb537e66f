"""`cfx import-data`: a published data set becomes the table that an audit reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.terminal import escaped, out, user_errors


def import_data(
    form: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="celeba, celeba-hq, bdd100k, bdd-oia, imagefolder, parquet, huggingface or webdataset",
        ),
    ],
    folder: Annotated[str, typer.Argument(help="the folder that it was unpacked into, or a URL such as s3://bucket/prefix")],
    to: Annotated[Path, typer.Option("--out", "-o", help="the table, .parquet")],
) -> None:
    """List the images of a data set, with their splits, labels and yes/no attributes, for `data:` of an audit."""
    with user_errors():
        from tasks.data.formats import table_of
        from warehouse.facts.storage import warehouse_at

        written = table_of(form, warehouse_at(folder), to)
    out.print(f"{written.rows:,} images: {escaped(str(to))}", soft_wrap=True)
    out.print(f"columns: {escaped(', '.join(written.columns))}", soft_wrap=True)
    split = ", split_column: split" if "split" in written.columns else ""
    out.print(escaped(f"data: {{images: {folder}, table: {to}{split}, label_column: …}}"), soft_wrap=True)
