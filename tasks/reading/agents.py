"""A warehouse for agents: a server of the Model Context Protocol whose tools read, and change nothing. Needs the extra `mcp`.

Every answer is what the command line says: the same views, the same guard on SQL, the same verdict. https://modelcontextprotocol.io
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import closing
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

import cfx
from cfx.errors import UserError
from cfx.masking import masked
from warehouse.lens.ask import near_views
from warehouse.lens.connect import description
from warehouse.lens.connect import query as answered
from warehouse.lens.connect import views as known_views
from warehouse.lens.fetch import fetch
from warehouse.lens.gate import check_run
from warehouse.lens.gate import gate as gate_of
from warehouse.lens.groups import GROUP_OF
from warehouse.lens.key_figures import key_figures
from warehouse.lens.listed_runs import open_run
from warehouse.lens.plain_json import as_json
from warehouse.lens.query_limits import Limits
from warehouse.lens.query_process import answer
from warehouse.lens.reference import meaning_of, reference
from warehouse.lens.runs import NEWEST_FIRST, resolve
from warehouse.lens.settled import settle
from warehouse.report.plain_text import PlainText
from warehouse.report.render import report_html
from warehouse.report.verdict import read_verdict

LARGEST = 1 << 27  # bytes of an answer with the images in it, of which only the number is sent
LONGEST = 200_000  # characters of an answer: more would fill an agent's memory, and help nobody
INSTRUCTIONS = """
The warehouse of cfx, which audits image classifiers with counterfactual explanations. Begin with `runs` and `verdict`. A finding
is confirmed only where two kinds of evidence agree; "inconclusive" and "not tested" clear nothing. For anything else ask `query`
in SQL (DuckDB): `views` lists what there is, `describe` says what each column means. All tools read; none changes anything.
"""
READING = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

RunId = Annotated[str, Field(description="run id, as `runs` lists them, the beginning of one, or latest")]


def server(root: Path) -> MCPServer:
    """The tools and resources over one warehouse; `.run()` serves them on standard input and output until it is closed."""
    served: MCPServer = MCPServer("cfx", version=cfx.__version__, instructions=INSTRUCTIONS.strip(), log_level="WARNING")
    for tool in (runs, verdict, findings, gate, report, views, describe, query):
        served.tool(name=tool.__name__, description=tool.__doc__, annotations=READING, structured_output=False)(
            _of_warehouse(root, tool, ToolError)
        )
    pages = (("cfx://reference", every_view), ("cfx://views/{name}", view_page), ("cfx://reports/{run}", report_page))
    for uri, page in pages:
        kind = "text/html" if page is report_page else "text/markdown"
        served.resource(uri, name=page.__name__, description=page.__doc__, mime_type=kind)(
            _of_warehouse(root, page, ResourceError)
        )
    return served


def runs(root: Path) -> str:
    """Every audit in this warehouse, the newest first: run id, name, status, when, images, classes."""
    sql = f"select run_id, name, status, started, finished, attempted as images, classes from runs order by {NEWEST_FIRST}"
    return as_json(answered(root, sql).to_pylist())


def verdict(root: Path, run: RunId) -> str:
    """What an audit found, in words, with its key figures: accuracy, worst group, explained share, properties it reacts to."""
    said = read_verdict(root, run)
    return as_json({"headline": said.headline, "kind": said.kind, "sentences": said.sentences, **key_figures(root, run)})


def findings(root: Path, run: RunId, clear_too: Annotated[bool, Field(description="also what was cleared")] = False) -> str:
    """Attributes, properties and places that the answer may rest on, ranked, each with its verdict, effect and interval."""
    with closing(open_run(root, "from runs, findings", run)) as lens:
        check_run(lens, root, run)
        settle(lens, run)
        sql = "from findings where run_id = $run and ($all or verdict not in ('clear', 'named')) order by rank"
        return as_json(fetch(lens, sql, run=run, all=clear_too))


def gate(root: Path, run: RunId) -> str:
    """May this classifier ship? pass, fail or inconclusive by the policy that the run is held to, with each rule and reason."""
    found = gate_of(root, run)
    return as_json(
        {"verdict": found.verdict, "reasons": found.reasons, "images_needed": found.images_needed, "rules": found.rules}
    )


def report(root: Path, run: RunId) -> str:
    """The whole report of an audit as plain text: verdict, release checks, findings, quality, subgroups, limits, provenance."""
    return PlainText(report_html(root, run)).text


def views(root: Path) -> str:
    """Every fact and view that `query` can read, the most useful first, each with its meaning in a sentence."""
    return "\n".join(f"{name}: {text.split('. ')[0].rstrip('.')}." for name, text in _meanings().items())


def describe(root: Path, name: Annotated[str, Field(description="a fact or view, as `views` lists them")]) -> str:
    """One fact or view: what it is over, the type and meaning of each column, and its SQL."""
    return view_page(root, name)


def query(
    root: Path,
    sql: Annotated[str, Field(description="one SELECT (also FROM, WITH, DESCRIBE, SUMMARIZE, SHOW) over the facts and views")],
    rows: Annotated[int, Field(ge=1, le=10_000, description="most rows of the answer")] = 100,
    timeout: Annotated[float, Field(ge=0.01, le=300, description="seconds after which the query is stopped")] = 60,
) -> str:
    """Ask the warehouse in SQL (DuckDB), read-only. JSON: the rows, and whether there are more; of bytes only their number."""
    limits = Limits(timeout, answer=LARGEST, longer="raise `timeout` (at most 300)", larger="aggregate first")
    found = answer(root, sql, limits=limits, most=rows)
    said = [{name: _short(value) for name, value in row.items()} for row in found.rows.to_pylist()]
    notes = {"notes": found.notes} if found.notes else {}
    return as_json({"rows": said, "more": found.more, **notes})


def every_view(root: Path) -> str:
    """Every fact and view with its columns and their meanings, for any warehouse."""
    return reference()


def report_page(root: Path, run: str) -> str:
    """The report of an audit as a page."""
    return report_html(root, run)


def view_page(root: Path, name: str) -> str:
    """One fact or view: its columns in words, and its SQL."""
    known = _meanings()
    if name not in known:
        raise UserError(f"there is no fact or view {name!r}{near_views(name)}; `views` lists all")
    (view,) = known_views(root, name)
    columns = [f"- `{column}` ({kind.lower()}): {meaning_of(name, column)}" for column, kind in view.columns]
    made = f"\n```sql\n{view.sql}```\n" if view.sql else ""
    return f"# {name}\n\n{known[name]}\n\n" + "\n".join(columns) + f"\n{made}"


def _meanings() -> dict[str, str]:
    """What each fact and view is, the most useful first."""
    return {name: description(name) for name in GROUP_OF}


def _of_warehouse(root: Path, read: Callable[..., str], failure: type[Exception]) -> Callable[..., str]:
    """A reading of this warehouse whose errors reach the client in their own words, and whose answer is not endless."""

    @wraps(read)
    def of_this(**values: Any) -> str:
        try:
            named = {"run": resolve(root, values["run"])} if "run" in values else {}
            answer = read(root, **values | named)
        except (UserError, OSError) as error:
            raise failure(masked(str(error))) from error
        if len(answer) > LONGEST:
            raise failure(
                f"the answer has {len(answer):,} characters, at most {LONGEST:,} are sent; ask for fewer columns or rows"
            )
        return answer

    signature = inspect.signature(read, eval_str=True)
    of_this.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]
    return of_this


def _short(value: object) -> object:
    """Bytes, images most often, as their number."""
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else value
