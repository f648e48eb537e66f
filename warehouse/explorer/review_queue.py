"""The review queue: the same explanations for everyone, blind, one after the other, by keys; at its end, how far people agree."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import duckdb
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from warehouse.explorer.agreement import agreement, by_subject, disagreements
from warehouse.explorer.gallery import picture
from warehouse.explorer.reviewer import remember, reviewer_of
from warehouse.explorer.reviews import review
from warehouse.explorer.site import Site
from warehouse.lens.fetch import Row, fetch
from warehouse.report.cards import thumbnail
from warehouse.report.queries import image_rows

SIZES = (10, 20, 50, 100, 200)
SIZE = 20
# By lot, which nobody draws: the hash orders a run's explanations once and for all, so a longer queue begins with the shorter.
QUEUE = """
select image_id, method, seed, source, target, flipped, judge_flipped, p_source, p_source_cf, p_target, p_target_cf, path
from outcomes where run_id = $run
order by md5(concat_ws(':', run_id, image_id, method, seed)), image_id, method, seed
limit $size
"""
MARKS = "select image_id, method, seed, reviewer, mark, note, written from marks where run_id = $run and image_id is not null"


@dataclass(frozen=True)
class Queue:
    """The explanations of a queue, and which of them this reviewer has marked, by place from 0."""

    rows: list[Row]
    marked: dict[int, Row]

    def next_open(self, after: int = -1) -> int | None:
        """The first unmarked place behind this one, else the first of all; None when every one is marked."""
        unmarked = [place for place in range(len(self.rows)) if place not in self.marked]
        return next((place for place in unmarked if place > after), unmarked[0] if unmarked else None)


def routes(site: Site) -> list[Route]:
    def queue(request: Request) -> Response:
        run_id, reviewer = request.path_params["run"], reviewer_of(request)
        run, lens, size = site.run(run_id), site.lens.of(run_id), _size(request.query_params.get("n", ""))
        shown: dict[str, Any] = {"run": run, "size": size, "sizes": SIZES, "reviewer": reviewer}
        marks = fetch(lens, MARKS, run=run_id)
        found = _queue(lens, run_id, size, marks, reviewer)
        total = fetch(lens, "select count(*) as n from outcomes where run_id = $run", run=run_id)[0]["n"]
        if not reviewer or "who" in request.query_params or not found.rows:
            return site.page("explorer_queue_start.html.j2", **shown, total=total)
        at = request.query_params.get("at", "")
        place = min(int(at), len(found.rows)) - 1 if at.isdecimal() and int(at) > 0 else found.next_open()
        if place is None:
            return site.page("explorer_queue_done.html.j2", **shown, queue=found, **_agreement(lens, run_id, marks))
        row = found.rows[place]
        others = [mark for mark in marks if mark["reviewer"] != reviewer and _same(mark, row)]
        return site.page(
            "explorer_queue.html.j2",
            **shown,
            total=total,
            queue=found,
            place=place,
            row=row,
            pictures=_pictures(run, row),
            own=found.marked.get(place),
            others=others,
            last=max(found.marked, key=lambda known: found.marked[known]["written"], default=None),
        )

    async def mark(request: Request) -> Response:
        """Keep one mark, and go on to what is not marked yet."""
        if (form := await site.form(request)) is None:
            return site.stranger()
        given = {key: values[0] for key, values in form.items()}
        run_id, reviewer, size = request.path_params["run"], reviewer_of(request), _size(given.get("n", ""))
        back = f"/runs/{quote(run_id, safe='')}/review?n={size}"
        if not reviewer:
            return RedirectResponse(back + "&who=1", status_code=303)

        def kept() -> int | None:
            lens, seed = site.lens.of(run_id), given.get("seed", "")
            subject = given.get("image", ""), given.get("method", ""), int(seed) if seed.isdecimal() else -1
            review(site.root, run_id, reviewer, given.get("mark", ""), explanation=subject, note=given.get("note", ""), lens=lens)
            lens = site.lens.of(run_id)
            found = _queue(lens, run_id, size, fetch(lens, MARKS, run=run_id), reviewer)
            at = given.get("at", "")
            return found.next_open(int(at) - 1 if at.isdecimal() else -1)

        place = await run_in_threadpool(kept)
        return RedirectResponse(back if place is None else f"{back}&at={place + 1}", status_code=303)

    async def introduce(request: Request) -> Response:
        """Remember who reviews here."""
        if (form := await site.form(request)) is None:
            return site.stranger()
        run_id, size = request.path_params["run"], _size(form.get("n", [""])[0])
        answer = RedirectResponse(f"/runs/{quote(run_id, safe='')}/review?n={size}", status_code=303)
        remember(answer, form.get("reviewer", [""])[0])
        return answer

    return [
        Route("/runs/{run}/review", queue),
        Route("/runs/{run}/review", mark, methods=["POST"]),
        Route("/runs/{run}/reviewer", introduce, methods=["POST"]),
    ]


def _size(text: str) -> int:
    return min(int(text), SIZES[-1]) if text.isdecimal() and int(text) > 0 else SIZE


def _same(mark: Row, row: Row) -> bool:
    return all(mark[key] == row[key] for key in ("image_id", "method", "seed"))


def _queue(lens: duckdb.DuckDBPyConnection, run_id: str, size: int, marks: list[Row], reviewer: str) -> Queue:
    rows = fetch(lens, QUEUE, run=run_id, size=size)
    own = {(mark["image_id"], mark["method"], mark["seed"]): mark for mark in marks if mark["reviewer"] == reviewer}
    places = {place: own.get((row["image_id"], row["method"], row["seed"])) for place, row in enumerate(rows)}
    return Queue(rows, {place: mark for place, mark in places.items() if mark is not None})


def _pictures(run: Row, row: Row) -> dict[str, str | None]:
    """The addresses of the pictures of an explanation; None where the run's configuration lets none be shown."""
    kept = json.loads(run["config"]).get("thumbnails") is not False
    keys = {"image": row["image_id"], "method": row["method"], "seed": row["seed"]}
    return {kind: picture(run["run_id"], kind, **keys) if kept else None for kind in ("input", "counterfactual", "difference")}


def _agreement(lens: duckdb.DuckDBPyConnection, run_id: str, marks: list[Row]) -> dict[str, Any]:
    """What the end of a queue shows: pairs of reviewers, and what they disagree on, with its images."""
    marked = by_subject(marks)
    differing = disagreements(marked)
    seen = {
        (row["image_id"], row["method"], row["seed"]): (thumbnail(row["png"], None, None), thumbnail(row["png_cf"], None, None))
        for row in image_rows(lens, run_id, sorted({each.subject[0] for each in differing}))
    }
    return {
        "pairs": agreement(marked),
        "differing": [(each, *seen.get(each.subject, (None, None))) for each in differing],
        "reviewers": sorted({row["reviewer"] for row in marks}),
    }
