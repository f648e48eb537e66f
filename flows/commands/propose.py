"""`cfx propose`: words that would explain more of a finished run's answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.options import taking
from flows.run_names import RunName, run_named
from flows.terminal import (
    DEFAULT_WAREHOUSE,
    AsJson,
    Warehouse,
    err,
    escaped,
    out,
    print_json,
    print_table,
    printable,
    user_errors,
)

if TYPE_CHECKING:
    from tasks.advice.captions import Captioner
    from tasks.advice.propose import Subject

ALONE = 8  # words that are listed by themselves
HYPOTHESES = (
    "These are hypotheses: words that go with the answers, not what they rest on. Only interventions confirm: paste the lines "
    "into the audit's YAML and audit again."
)


@dataclass(frozen=True)
class ProposeOptions:
    """Options of the command."""

    run: RunName
    model: Annotated[str, typer.Option(help="a folder or hub id of CLIP or SigLIP, or portraits:words")]
    words: Annotated[
        str | None, typer.Option(help="the vocabulary: one that comes with cfx, by name, or a YAML file; default: faces")
    ] = None
    captioner: Annotated[
        str | None,
        typer.Option(
            help="candidates from captions instead: the address of an OpenAI-compatible API (…/v1), or a folder of a local "
            "image-text-to-text model"
        ),
    ] = None
    send_images: Annotated[bool, typer.Option("--send-images", help="allow that images of the run are sent to that address")] = (
        False
    )
    captioner_model: Annotated[str, typer.Option(help="the model's name at that address")] = "default"
    token_env: Annotated[str | None, typer.Option(help="the environment variable that holds the token of that address")] = None
    captions: Annotated[int, typer.Option(min=2, help="images to caption, those that the names explain worst")] = 24
    warehouse: Warehouse = DEFAULT_WAREHOUSE
    as_json: AsJson = False


def _captioner(options: ProposeOptions) -> Captioner | None:
    """Refused, where it is, before any work."""
    from tasks.advice.captions import CaptionerOptions, captioner_of

    if options.captioner is None:
        return None
    if options.words is not None:
        raise typer.BadParameter("give a vocabulary or a captioner, not both", param_hint="--words --captioner")
    return captioner_of(CaptionerOptions(options.captioner, options.send_images, options.captioner_model, options.token_env))


def _from_captions(options: ProposeOptions, captioner: Captioner, subject: Subject) -> dict[str, tuple[str, str]]:
    from cfx.errors import UserError
    from tasks.advice.captions import captions_of, phrases, words_of
    from tasks.advice.propose import worst_explained

    said = captions_of(captioner, worst_explained(subject, options.captions))
    err.print(f"{len(said)} images captioned by {escaped(options.captioner)}", soft_wrap=True)
    found = phrases(said)
    if not found:
        raise UserError(f"--captioner: no phrase is in two of its {len(said)} captions, such as {said[0][:80]!r}")
    return words_of(found)


@taking(ProposeOptions)
def propose(options: ProposeOptions) -> None:
    """Rank the words of a vocabulary by how much more of a finished run's answers they explain; print the best as YAML."""
    with user_errors():
        run = run_named(options.warehouse, options.run)
        from cfx.attributes.words import WordsOracleConfig
        from flows.settings import checked
        from tasks.advice.propose import propose_words, subject_of, yaml_lines

        captioner = _captioner(options)
        subject = subject_of(options.warehouse, run)
        with err.status("captions"):
            candidates = options.words or "faces" if captioner is None else _from_captions(options, captioner, subject)
        words = checked(WordsOracleConfig, {"words": candidates, "model": options.model}, "arguments")
        with err.status("measuring"):
            proposed = propose_words(subject, words)
    found, chosen = proposed.found, [one.name for one in proposed.found.together]
    lines = yaml_lines(subject, words, chosen) if chosen else ""
    table = Table(
        "word",
        "explained with it",
        "added",
        "95 %, of all tried",
        "added after those above",
        title_justify="left",
        title=f"P({escaped(proposed.name)}), {proposed.n} images: the names explain {max(found.before, 0):.1%}",
    )
    after = {one.name: f"{one.share:.1%}" for one in found.together}
    listed = {one.name: one for one in (*(one for one in found.alone if one.name in after), *found.alone[:ALONE])}
    for one in listed.values():
        table.add_row(
            escaped(one.name),
            f"{one.share:.1%}",
            f"{one.gain:+.1%}",
            f"{one.low:+.1%} to {one.high:+.1%}",
            after.get(one.name, ""),
        )
    print_table(table)
    if proposed.shapeless:
        out.print(
            escaped(f"scores without two groups, where the cut is arbitrary: {', '.join(proposed.shapeless)}"), soft_wrap=True
        )
    print(printable(lines) or "no word of these adds a hundredth")  # noqa: T201
    out.print(HYPOTHESES, soft_wrap=True)
    if options.as_json:
        print_json(
            {
                "run_id": run,
                "class": proposed.name,
                "n": proposed.n,
                "before": found.before,
                "words": [one._asdict() for one in found.alone],
                "together": [one._asdict() for one in found.together],
                "shapeless": list(proposed.shapeless),
                "yaml": lines,
                "hypotheses": HYPOTHESES,
            }
        )
