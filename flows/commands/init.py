"""`cfx init`: from a folder of images, a table and a network to the settings of an audit."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.check import show_checked
from flows.commands.train import keys_of
from flows.options import taking
from flows.terminal import AsJson, err, escaped, out, print_json, settle, user_errors

if TYPE_CHECKING:
    from tasks.first_look.images import ImagesFound
    from tasks.first_look.network import Given, Source
    from tasks.first_look.table import TableFound
    from tasks.first_look.trial import Proposal

TABLES = (".csv", ".parquet", ".pq")
SETTINGS = Path("run.yaml")


@dataclass(frozen=True)
class InitOptions:
    """Options of the command."""

    images: Annotated[Path | None, typer.Argument(help="the folder of your images")] = None
    table: Annotated[
        str | None, typer.Argument(metavar="[TABLE]", help="CSV or Parquet, one row an image; left out for a folder a class")
    ] = None
    model: Annotated[
        str | None,
        typer.Argument(help="a file of weights, .onnx, a Hugging Face folder, my_net.py:Net, timm:NAME, torchvision:NAME"),
    ] = None
    weights: Annotated[Path | None, typer.Option(help="the file of weights, where MODEL is a class or a name")] = None
    label: Annotated[str | None, typer.Option(help="column of labels")] = None
    file_column: Annotated[str | None, typer.Option(help="column with the path of each image")] = None
    classes: Annotated[str | None, typer.Option(help="names of the classes in the order of the outputs, parted by commas")] = None
    size: Annotated[int | None, typer.Option(min=8, help="side of the images audited, pixels")] = None
    with_: Annotated[str | None, typer.Option("--with", help="of prior,oracle,judge, which to train before the audit")] = None
    full: Annotated[bool, typer.Option("--full", help="all of them that can be trained from these images")] = False
    allow_pickle: Annotated[bool, typer.Option("--allow-pickle", help="read files that run code; only of makers you trust")] = (
        False
    )
    demo_of: Annotated[str | None, typer.Option(help="lay out a whole example first: fashion, solar or portraits")] = None
    to: Annotated[Path, typer.Option("--out", "-o", help="the YAML to write; with --demo-of the folder")] = SETTINGS
    yes: Annotated[bool, typer.Option("--yes", "-y", help="ask nothing: take what is proposed")] = False
    as_json: AsJson = False


@taking(InitOptions)
def init(options: InitOptions) -> None:
    """Look at images, table and network, write run.yaml, and check it. Never overwrites a file."""
    settle(quiet=True)
    with user_errors():
        from cfx.errors import UserError
        from flows.demo_of import lay_out_example
        from flows.engine import one_thread

        if options.demo_of is not None:
            folder = Path(f"cfx-{options.demo_of}") if options.to == SETTINGS else options.to
            with err.status(f"laying out {escaped(options.demo_of)}"):
                images, table, model = lay_out_example(options.demo_of, folder)
            options = replace(options, yes=True, images=images, table=str(table), model=model, to=folder / SETTINGS)
        check_free(options.to)
        if options.images is None:
            raise UserError("give the folder of your images: cfx init IMAGES [TABLE] MODEL; or an example: --demo-of fashion")
        with one_thread():
            found = looked_at(options)
    write_and_check(options, *found)


def check_free(path: Path) -> None:
    """Raises UserError for a file that is there: nothing is overwritten."""
    from cfx.errors import UserError
    from flows.terminal import check_out

    if path.exists():
        raise UserError(f"{path} is there, and nothing is overwritten; name another file, --out other.yaml, or move it away")
    check_out(path)


def looked_at(options: InitOptions) -> tuple[Given, ImagesFound, TableFound, Source, Proposal]:
    """All that can be seen, printed as it is found."""
    from cfx.errors import UserError
    from tasks.first_look.folders import table_of_folders
    from tasks.first_look.images import look_at_images
    from tasks.first_look.network import Given, source_of
    from tasks.first_look.table import Choices, look_at_table
    from tasks.first_look.trial import Subject, propose

    assert options.images is not None
    table, model = (options.table, options.model) if _is_table(options.table) else (None, options.model or options.table)
    with err.status("looking at the images"):
        images = look_at_images(options.images)
    _say(images.lines(), images.warnings())
    if model is None:
        raise UserError("no network: give MODEL, a file of weights, an .onnx file, a Hugging Face folder or my_net.py:Net")
    given = Given(model, options.to.absolute().parent, options.weights, options.allow_pickle)
    with err.status("looking at the network"):
        source = source_of(given)
    named = keys_of(options.classes)
    path = Path(table) if table is not None else table_of_folders(images, given.home)
    choices = Choices(options.file_column, options.label, named or source.classes)
    found = look_at_table(path, images, choices)
    if found.label_column is None and found.candidates:
        found = look_at_table(path, images, Choices(options.file_column, _asked_label(options, found), choices.classes))
    _say(found.lines(), found.warnings())
    subject = Subject(source, images, found, given.home, named, options.size)
    with err.status("trying the network"):
        proposal = propose(subject)
    if asks(options) and proposal.order_unsure:
        named = keys_of(typer.prompt("Classes in the order of the outputs", default=",".join(proposal.classes)))
        proposal = propose(replace(subject, classes=named))
    _say(_of_network(source, proposal), proposal.warnings)
    return given, images, found, source, proposal


def _is_table(given: str | None) -> bool:
    return given is not None and Path(given).suffix.lower() in TABLES


def asks(options: InitOptions) -> bool:
    """Whether there is somebody to ask."""
    return not options.yes and sys.stdin.isatty()


def _asked_label(options: InitOptions, found: TableFound) -> str:
    from cfx.errors import UserError

    columns = ", ".join(found.candidates)
    if not asks(options):
        raise UserError(f"which column of {found.path} is the label? --label, one of {columns}; or a column called `label`")
    return str(typer.prompt(f"Which column is the label ({columns})?"))


def _of_network(source: Source, found: Proposal) -> list[str]:
    shown = [f"network: {source.kind}: {source.architecture}; {len(found.classes)} classes", *found.reasons]
    if found.accuracy is not None:
        shown.append(f"right about {found.accuracy.right} of {found.accuracy.n} labelled images, as their files are")
    if found.accuracy_resampled is not None:
        right, n = found.accuracy_resampled.right, found.accuracy_resampled.n
        shown.append(f"right about {right} of {n} as the audit shows them, at {found.size} px")
    return shown


def _say(lines: list[str], warnings: Any = ()) -> None:
    for line in lines:
        out.print(escaped(line), soft_wrap=True, highlight=False)
    for warning in warnings:
        err.print(f"[yellow]warning[/] {escaped(warning)}", soft_wrap=True)


def write_and_check(options: InitOptions, given: Given, images: ImagesFound, table: TableFound, *network: Any) -> None:
    """Write the settings, and check them as `cfx check` does."""
    source, proposal = network
    with user_errors():
        from tasks.first_look.settings import written

        text = written(given, table, proposal, _autos(options, table))
        with options.to.open("x", encoding="utf-8") as file:
            file.write(text)
        out.print(f"\n[bold]{escaped(str(options.to))}[/]\n{escaped(text)}", soft_wrap=True, highlight=False)
        checked = show_checked(options.to)
    out.print(f"Next: cfx audit {escaped(options.to)}", soft_wrap=True)
    if options.as_json:
        known = {"kind": source.kind, "architecture": source.architecture, "classes": list(proposal.classes)}
        known |= {"input_size": proposal.input_size, "channels": proposal.channels, "settings": proposal.settings}
        for name in ("accuracy", "accuracy_resampled"):
            tried = getattr(proposal, name)
            known[name] = None if tried is None else {"right": tried.right, "n": tried.n}
        warnings = [*images.warnings(), *table.warnings(), *proposal.warnings, *checked["warnings"]]
        said = {"images": images.as_json(), "table": table.as_json(), "model": known, "config": str(options.to)}
        print_json(said | {"reasons": list(proposal.reasons), "check": checked, "warnings": warnings})


def _autos(options: InitOptions, table: TableFound) -> set[str]:
    """Which networks are to be trained. Raises UserError for one that there is not, or that cannot be from this table."""
    from cfx.errors import UserError
    from tasks.first_look.settings import AUTOS, impossible

    wanted = keys_of(options.with_)
    for name in wanted:
        if name not in AUTOS:
            raise UserError(f"--with: there is no {name!r}; there are {', '.join(AUTOS)}")
        if reason := impossible(name, table):
            raise UserError(f"--with {name}: {reason}")
    return {name for name in AUTOS if name in wanted or (options.full and impossible(name, table) is None)}
