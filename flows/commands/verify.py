"""`cfx verify` and `cfx export`: can the report be trusted, and take the evidence along."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfx.errors import UserError
from flows.run_names import HELP, complete_run, run_named
from flows.terminal import DEFAULT_WAREHOUSE, AsJson, Warehouse, check_out, err, escaped, out, print_json, user_errors

if TYPE_CHECKING:
    from warehouse.evidence.verify import Verification

EXITS = {"sound": 0, "damaged": 1, "stale": 3, "other version": 4}


def verify(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help=f"{HELP}; or a file that `cfx export` wrote: an archive, or a draft of Annex IV",
            autocompletion=complete_run,
        ),
    ],
    key: Annotated[
        Path | None, typer.Option(help="of an archive: the public key of its signer, PEM or OpenSSH; another's is refused")
    ] = None,
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    as_json: AsJson = False,
) -> None:
    """Make a report again from its facts, compare it letter for letter, and hash every file; of an archive, every byte.

    Exit code 0: all as reported; 1: something differs, or a file is damaged; 3: all as it was written, but older than a review or
    another fact of the run: write the report again; 4: facts whole, but the report is by another version of cfx: its letters
    cannot be compared (2: bad input).
    """
    with user_errors():
        from tasks import pack

        written = run.endswith((".zip", ".md"))  # by `cfx export`
        found = pack.verify(warehouse, run if written else run_named(warehouse, run), key)
    if as_json:
        print_json(pack.as_json(found))
    else:
        _say(found)
    raise typer.Exit(EXITS[found.state])


def _say(found: Verification) -> None:
    if found.digest is None or found.numbers:
        out.print(f"{found.recomputed:,} of {found.numbers:,} numbers recomputed, {found.files:,} files hashed")
    else:
        out.print(f"no number recomputed, because of what is damaged; {found.files:,} files hashed")
    for name in found.bad_files:
        reason = f": {found.reasons[name]}" if name in found.reasons else ""
        err.print(f"[bold red]bad file[/] {escaped(name + reason)}", soft_wrap=True)
    for text in found.mismatches[:20]:
        err.print(f"[bold red]differs[/] {escaped(text)}", soft_wrap=True)
    if found.later:
        err.print(f"[bold yellow]stale[/] {escaped(found.stale)}", soft_wrap=True)
    if found.maker is not None:
        words = f"made by {found.maker}; this is {found.this}: the report cannot be compared letter for letter"
        err.print(f"[bold yellow]other version[/] {escaped(words)}", soft_wrap=True)
    if found.absent:
        out.print(f"{found.absent:,} earlier runs are not in this warehouse: their numbers were not asked again", soft_wrap=True)
    if found.digest is not None:
        out.print(f"digest {found.digest}", soft_wrap=True)
        if found.signer is None and "SIGNATURE" not in found.reasons:
            out.print("not signed: whoever can write facts can have written these", soft_wrap=True)
        elif found.signer is not None:
            whose = "by the key given" if found.vouched else "by a key that you have not named: check with --key PUBLIC"
            out.print(f"signed with {found.signer}, {whose}", soft_wrap=True)


def export(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="[papers|training|annex-iv] RUN",
            autocompletion=complete_run,
            help="run id, or the beginning of one; after `papers` or `training`, folders of images; after `annex-iv`, a draft",
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--to",
            "-o",
            help="default: RUN.zip (`papers`: folder RUN; `training`: folder RUN-training; `annex-iv`: RUN-annex-iv.md)",
        ),
    ] = None,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="sign the archive with this Ed25519 private key, PEM or OpenSSH")
    ] = None,
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
) -> None:
    """One archive with facts, configuration, report, model card and JSON; `cfx verify RUN.zip` checks it anywhere.

    `cfx export papers RUN` writes originals and counterfactuals as DiME's released code does, for the metric scripts of papers;
    `cfx export annex-iv RUN` a draft of the technical documentation of the EU AI Act, Annex IV, with references to other texts.
    `cfx export training RUN` writes images, edits and counterfactuals with labels that can be trusted, balanced by what was
    confirmed: train/<label>/*.png, held_out/<label>/*.png and table.csv.
    """
    with user_errors():
        from warehouse.evidence.annex_iv import write_annex_iv
        from warehouse.evidence.export import digest_in
        from warehouse.evidence.export import export as archive
        from warehouse.evidence.papers import export_papers
        from warehouse.evidence.signature import private_key
        from warehouse.evidence.training_set import export_training

        if sign is not None and len(what) != 1:
            raise UserError("--sign is for the archive of a run: cfx export RUN --sign KEY")
        digest = None
        match what:
            case ["papers" | "training" | "annex-iv" as kind]:
                raise UserError(f"{kind} of which run? Give its id: cfx export {kind} RUN")
            case [name]:
                if to is not None:
                    check_out(to)
                run = run_named(warehouse, name)
                key = None if sign is None else private_key(sign, lambda: _passphrase(sign))
                written = archive(warehouse, run, to or Path(f"{run}.zip"), key=key)
                digest = digest_in(written)
            case ["papers", name]:
                run = run_named(warehouse, name)
                written = export_papers(warehouse, run, to or Path(run))
            case ["annex-iv", name]:
                if to is not None:
                    check_out(to)
                run = run_named(warehouse, name)
                written = write_annex_iv(warehouse, run, to or Path(f"{run}-annex-iv.md"))
            case ["training", name]:
                run = run_named(warehouse, name)
                written = to or Path(f"{run}-training")
                for line in export_training(warehouse, run, written).sentences():
                    out.print(escaped(line), soft_wrap=True)
            case _:
                kinds = "`papers`, `training` or `annex-iv` and a run"
                raise UserError(f"export takes a run, or {kinds}, but got {' '.join(what)!r}")
        out.print(escaped(written), soft_wrap=True)
        if digest is not None:
            out.print(f"digest {digest}", soft_wrap=True)


def _passphrase(key: Path) -> str:
    if not sys.stdin.isatty():
        raise UserError(f"{key} is locked by a passphrase, and there is no terminal to ask for it: run this in one")
    return str(typer.prompt(f"passphrase of {key}", hide_input=True, err=True))
