"""How long the explorer's pages take in a warehouse of 10,000 explanations, and forty reviews that come at once.

    .venv/bin/python benchmarks/explorer.py --json            # 10,000 explanations of 128 x 128 pixels
    .venv/bin/python benchmarks/explorer.py --json --quick    # 600 of 32 x 32

Facts as an audit writes them, 64 images a shard, guided and null, written by what the tests use; then `cfx serve` in a process of
its own, and clients over HTTP. `first` is the first page of all, which reads the facts. `pages` are pages of the gallery as a
person asks for them, with facets and sorts, each several times. `whole` is a page with all of its pictures, as a browser fetches
them: over six connections. `image` is the page of one explanation. `reviews`: from the first of forty posted by forty clients at
once until the last is answered. Where the cores are busy with other things, `page_cpu_seconds`, the server's CPU time a page,
says more than seconds.
"""

from __future__ import annotations

import argparse
import html
import io
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path
from threading import local
from typing import Any
from urllib.parse import urlencode, urlsplit

sys.path.pop(0)  # benchmarks/, whose names would hide Python's own and ours
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "warehouse"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import facts
import numpy as np
from PIL import Image
from served import serving

from cfx.portraits import ATTRIBUTES, render, sample
from warehouse.facts.shards import write_shard

SHARD = 64  # images
DRAWN = 128  # different portraits; the other images show them again
REVIEWS = 40
GALLERY = "/runs/large/explanations"
PAGES: tuple[dict[str, str], ...] = (
    {},
    {"sort": "d_glasses", "down": "1"},
    {"outcome": "not flipped"},
    {"changed": "added:glasses", "target": "smile", "sort": "p_target_cf"},
    {"judge": "disagrees", "label": "smile", "min.l1": "0.01", "max.l1": "0.05"},
    {"min.d_hat": "0.1", "sort": "d_hat", "down": "1"},
    {"page": "12", "sort": "l2"},
    {"reviewed": "not reviewed", "source": "smile", "target": "no_smile"},
)


def write_facts(root: Path, explanations: int, size: int) -> None:
    """One finished run with a guided and a null explanation of each image, and the edits of a few."""
    rng = np.random.default_rng(0)
    portraits = [sample(np.random.default_rng(i)) for i in range(min(DRAWN, explanations))]
    before = [_png(render(portrait, size), rng) for portrait in portraits]
    after = [_png(render(portrait.toggled("smile"), size), rng) for portrait in portraits]
    mask = _png(np.kron(rng.integers(0, 2, (8, 8, 1)) * 255, np.ones((size // 8, size // 8, 3))).astype(np.uint8), None)
    ids = facts.image_ids(explanations)
    write_shard(root, "runs", "large", "started", facts.run_rows(status="started", finished=None))
    for number, start in enumerate(range(0, explanations, SHARD)):
        mine = ids[start : start + SHARD]
        drawn = np.arange(start, start + len(mine)) % len(portraits)
        smiles = np.array([portraits[i].has("smile") for i in drawn])
        sources = np.array(facts.CLASSES)[smiles.astype(int)]
        known = {f"a_{name}": [portraits[i].has(name) for i in drawn] for name in ATTRIBUTES}
        labels = np.where(rng.random(len(mine)) < 0.1, np.array(facts.CLASSES)[1 - smiles], sources)
        images = facts.image_rows(mine, label=labels, png=[before[i] for i in drawn], **known)
        key = f"{number:05}"
        write_shard(root, "images", "large", key, images)
        write_shard(root, "predictions", "large", key, facts.prediction_rows(mine, sources))
        for arm in ("guided", "null"):
            flipped = rng.random(len(mine)) < (0.9 if arm == "guided" else 0.02)
            columns = {
                "source": sources, "target": np.array(facts.CLASSES)[1 - smiles], "flipped": flipped,
                "judge_flipped": flipped & (rng.random(len(mine)) < 0.9), "l1": rng.gamma(4, 0.01, len(mine)),
                "l2": rng.gamma(4, 0.5, len(mine)), "p_target_cf": np.where(flipped, rng.beta(9, 1, len(mine)), 0.2),
                "png": [after[i] if arm == "guided" else before[i] for i in drawn], "mask_png": [mask] * len(mine),
            }  # fmt: skip
            write_shard(root, "explanations", "large", f"{key}-{arm}", facts.explanation_rows(mine, arm, **columns))
            p = {name: rng.random(len(mine)) for name in ATTRIBUTES}
            q = {name: np.clip(values + rng.normal(0, 0.2, len(mine)), 0, 1) for name, values in p.items()}
            write_shard(root, "attributes", "large", f"{key}-{arm}", facts.attribute_rows(mine, p, q, arm))
    write_shard(root, "effects", "large", "00000", facts.effect_rows(ids[:SHARD], "glasses", rng.normal(0.3, 0.1, SHARD)))
    counts = {"attempted": explanations, "explained": explanations, "flipped": round(0.9 * explanations), "rejected": 0}
    write_shard(root, "runs", "large", "finished", facts.run_rows(**counts))


def _png(picture: Any, rng: np.random.Generator | None) -> bytes:
    """A picture, with the grain of a photograph where there is a rng: without it PNG makes a portrait far smaller than one."""
    if rng is not None:
        picture = np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


_here = local()
_opened: list[HTTPConnection] = []  # closed at the end


def get(at: str, path: str) -> bytes:
    """The body of an answer, over a connection that this thread keeps. Raises RuntimeError for any status but 200."""
    for attempt in range(2):
        if attempt or not hasattr(_here, "connection"):
            _here.connection = HTTPConnection(urlsplit(at).netloc)
            _opened.append(_here.connection)
        with suppress(RemoteDisconnected):  # the server ends connections that were idle for seconds
            _here.connection.request("GET", path)
            answer = _here.connection.getresponse()
            body: bytes = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{path}: {answer.status}")
            return body
    raise RuntimeError(f"{path}: no answer")


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def pictures_of(page: bytes) -> list[str]:
    """The addresses of a page's pictures."""
    return [html.unescape(address) for address in re.findall(r'<img[^>]* src="(/[^"]+)"', page.decode())]


def whole(at: str, path: str, pool: ThreadPoolExecutor) -> int:
    """Fetch a page and all of its pictures, and return how many those are."""
    addresses = pictures_of(get(at, path))
    return len(list(pool.map(lambda address: get(at, address), addresses)))


def post_reviews(at: str, n: int) -> float:
    """Seconds until n clients, each with a form of its own, have all been answered."""
    shots = re.findall(r'class="shot" href="([^"]+)"', get(at, GALLERY).decode())
    forms = []
    for i in range(n):
        page = get(at, html.unescape(shots[i % len(shots)])).decode()
        form = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))
        fields = {name: html.unescape(value) for name, value in form.items()}
        forms.append(urlencode(fields | {"reviewer": f"client {i}", "mark": "confirmed"}))

    def post(form: str) -> None:
        with closing(HTTPConnection(urlsplit(at).netloc)) as connection:
            connection.request("POST", "/runs/large/reviews", form, {"Content-Type": "application/x-www-form-urlencoded"})
            with connection.getresponse() as answer:
                if answer.status != 303:
                    raise RuntimeError(f"a review was answered with {answer.status}")

    with ThreadPoolExecutor(n) as clients:
        return timed(lambda: list(clients.map(post, forms)))


def measured(root: Path, explanations: int, size: int, rounds: int) -> dict[str, Any]:
    """What a server of its own answers, and how fast."""
    write_seconds = timed(lambda: write_facts(root, explanations, size))
    addresses = [GALLERY + ("?" + urlencode(page) if page else "") for page in PAGES]
    with serving(root) as at, ThreadPoolExecutor(6) as browser:
        first = timed(lambda: get(at, GALLERY))
        spent = served_cpu_seconds()
        pages = [timed(partial(get, at, address)) for _ in range(rounds) for address in addresses]
        cpu = (served_cpu_seconds() - spent) / len(pages)
        complete = [timed(partial(whole, at, address, browser)) for address in addresses]
        shots = re.findall(r'class="shot" href="([^"]+)"', get(at, GALLERY).decode())
        images = [timed(partial(get, at, html.unescape(shot))) for shot in shots]
        reviews = post_reviews(at, REVIEWS)
        again = timed(lambda: get(at, GALLERY + "?reviewed=confirmed"))
        for connection in _opened:
            connection.close()
    return {
        "explanations": explanations,
        "pixels": size,
        "page_seconds": spread(pages),
        "page_cpu_seconds": round(cpu, 3),
        "whole_seconds": spread(complete),
        "image_seconds": spread(images),
        "first_seconds": round(first, 3),
        "reviews": REVIEWS,
        "review_seconds": round(reviews, 3),
        "page_after_reviews_seconds": round(again, 3),
        "write_seconds": round(write_seconds, 1),
    }


def served_cpu_seconds() -> float:
    """CPU time of this process's child, the server, so far."""
    (child,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile, and how many they are of."""
    median, p95 = (round(float(np.percentile(seconds, share)), 3) for share in (50, 95))
    return {"median": median, "p95": p95, "n": len(seconds)}


def _lines(row: dict[str, Any]) -> Iterator[str]:
    for name, value in row.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        yield from (f"{name:28} {part:8} {number}" for part, number in parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--explanations", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="600 explanations of 32 x 32, each page once")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        row = measured(Path(scratch), 600, 32, 1) if options.quick else measured(Path(scratch), options.explanations, 128, 8)
    print(json.dumps(row) if options.json else "\n".join(_lines(row)))  # noqa: T201


if __name__ == "__main__":
    main()
