"""SQL in the browser: a query in the address, its answer as a table, a chart, a file. Reading only, as `cfx query`."""

from __future__ import annotations

import io
import math
import re
from typing import Any
from urllib.parse import quote, urlencode

import pyarrow as pa
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cfx.errors import UserError
from warehouse.explorer import plot
from warehouse.explorer.site import Site
from warehouse.lens import answer_files
from warehouse.lens.groups import GROUPS, example
from warehouse.lens.query_limits import Limits
from warehouse.lens.query_process import Answer, answer

LIMITS = Limits(30, answer=1 << 28, threads=2, longer="use `cfx query --timeout`", larger="use `cfx query --memory`")
SHOWN = 500  # rows on the page
SAVED = 1_000_000  # rows of a file
LONGEST = 20_000  # characters of a query
SAMPLES = {  # what it asks -> the query; of one run the second, which its page fills in
    "Which audits are there?": "select audit, run_id, model, status, started, explained from runs order by started desc",
    "What does the answer rest on?": "select audit, rank, kind, name, round(effect, 3) as effect, verdict, why\n"
    "from findings{of}\norder by audit, rank limit 40",
    "Where is it wrong most?": "select audit, label, attribute, present, accuracy, low, high, n\nfrom worst_groups{of}\n"
    "order by accuracy limit 20",
    "Which images does it get wrong?": "select path, label, predicted, confidence\nfrom predictions\n"
    "where not correct{and}\norder by confidence desc limit 50",
    "Which explanations changed least?": "select path, predicted, target, flipped, l1\nfrom outcomes{of}\norder by l1 limit 50",
    "What did each edit do?": "select attribute, target, round(avg(effect), 3) as effect, count(*) as n\nfrom edit_effects\n"
    "where counted{and}\ngroup by all order by abs(avg(effect)) desc",
}
FILES = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
_PARAMETER = re.compile(r"\$run\b")


def routes(site: Site) -> list[Route]:
    def page(request: Request) -> Response:
        of_run = {"run": site.run(request.path_params["run"])} if "run" in request.path_params else {}
        at = f"/runs/{quote(request.path_params['run'], safe='')}/sql" if of_run else "/sql"
        chosen = {name: request.query_params.get(name, "") for name in ("sql", "chart", "x", "y")}
        sql, error, found = chosen["sql"].strip(), "", None
        if sql:
            try:
                found = _answer(site, request, sql, SHOWN)
            except UserError as refused:
                error = str(refused)
        columns = found.rows.column_names if found else []
        return site.page(
            "explorer_sql.html.j2",
            status=400 if error else 200,
            **of_run,
            at=at,
            chosen=chosen,
            error=error,
            columns=columns,
            numeric=[name for name in columns if found and _is_number(found.rows.schema.field(name).type)],
            rows=[[_cell(value) for value in row.values()] for row in found.rows.to_pylist()] if found else None,
            more=found.more if found else False,
            notes=found.notes if found else (),
            chart=_chart(found.rows, chosen) if found else None,
            files={form: f"{at}.{form}?{urlencode({'sql': sql})}" for form in FILES} if found else {},
            samples={question: _sample(sql, bool(of_run)) for question, sql in SAMPLES.items()},
            groups={group: {name: (words, example(name)) for name, words in names.items()} for group, names in GROUPS.items()},
            seconds=LIMITS.seconds,
        )

    def file(request: Request) -> Response:
        form = request.path_params["form"]
        if form not in FILES:
            raise UserError(f"there is no file of the form {form!r}; there are {', '.join(FILES)}")
        found = _answer(site, request, request.query_params.get("sql", ""), SAVED)
        if found.more:
            raise UserError(f"the answer has more than {SAVED:,} rows; query fewer, or use `cfx query --out`")
        named = {"Content-Disposition": f'attachment; filename="answer.{form}"', "Cache-Control": "no-store"}
        file = io.BytesIO()
        answer_files.FORMS[form](found.rows, file)
        return Response(file.getvalue(), media_type=FILES[form], headers=named)

    pages = [Route(f"{before}/sql", page) for before in ("", "/runs/{run}")]
    return pages + [Route(before + "/sql.{form}", file) for before in ("", "/runs/{run}")]


def _answer(site: Site, request: Request, sql: str, most: int) -> Answer:
    if len(sql) > LONGEST:
        raise UserError(f"a query of more than {LONGEST:,} characters is refused")
    run = request.path_params.get("run")
    return answer(site.root, sql, {"run": run} if run and _PARAMETER.search(sql) else {}, LIMITS, most)


def _sample(sql: str, of_run: bool) -> str:
    of, also = (" where run_id = $run", " and run_id = $run") if of_run else ("", "")
    return sql.replace("{of}", of).replace("{and}", also)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _cell(value: Any) -> str:
    """A value for people: six digits, and no image's bytes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    return "" if value is None else str(value)


def _chart(rows: pa.Table, chosen: dict[str, str]) -> plot.LineChart | list[plot.Bar] | None:
    """The chart that is wanted, of a column of numbers over another column; None where there is nothing to draw."""
    x, y = chosen["x"], chosen["y"]
    if chosen["chart"] not in ("bar", "line") or not {x, y} <= set(rows.column_names):
        return None
    if not _is_number(rows.schema.field(y).type):
        raise UserError(f"a chart is of numbers, and {y!r} holds {rows.schema.field(y).type}")
    pairs = zip(rows.column(x).to_pylist(), rows.column(y).to_pylist(), strict=True)
    known = [(_cell(label), float(value)) for label, value in pairs if value is not None and math.isfinite(value)]
    if not known:
        return None
    if chosen["chart"] == "bar":
        return plot.bars(known)
    return plot.line([plot.Measured(label, value) for label, value in known])
