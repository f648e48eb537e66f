"""Any form and any address for the explorer: kept as it was written, or a page that says why not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from portrait_run import write_portrait_run
from starlette.testclient import TestClient

from tests.fuzz.bounds import bounded, examples
from warehouse.explorer.app import explorer
from warehouse.lens.connect import query

odd = st.one_of(
    st.sampled_from(
        ["", " ", "\0", "\n", "a" * 101, "a" * 2001, "<script>alert(1)</script>", "‮", "\ud800", "'; drop table runs; --",
         "{{ 1 }}", "../..", "%00", "é", "e\u0301", "=cmd|' /C calc'!A0", "\x1b[2J", "1e999", "-1", "٣", "²", "9" * 400]
    ),
    st.text(max_size=20),
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(root, "run", n=8, size=16)
    return root


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    app = explorer(root, ("testserver",))
    with TestClient(app, base_url="http://testserver", follow_redirects=False) as client:
        yield client


def test_a_form_of_any_kind_is_kept_as_written_or_refused(root: Path, client: TestClient) -> None:
    page = client.get("/runs/run").text
    token = page.partition('name="token" value="')[2].partition('"')[0]
    assert token
    [image] = query(root, "select image_id, method, seed from explanations where run_id = 'run' limit 1").to_pylist()
    right = {"token": token, "reviewer": "Ada", "mark": "confirmed", "attribute": "glasses", "note": "", "back": "/runs/run"}
    right |= {name.removesuffix("_id"): str(value) for name, value in image.items()}
    right |= {"kind": "property", "claim": "x", "name": "y", "thing": "1", "has": image["image_id"], "shown": image["image_id"]}

    @examples(6, 1500)
    @given(
        st.sampled_from(["reviews", "names"]), st.dictionaries(st.sampled_from([*right]), odd, max_size=3), st.binary(max_size=20)
    )
    def holds(form: str, changes: dict[str, str], noise: bytes) -> None:
        changed = {name: value.encode(errors="replace") for name, value in (right | changes).items()}
        with bounded(256, 20):
            answer = client.post(
                f"/runs/run/{form}",
                content=urlencode(changed).encode() + (b"&" + noise if noise else b""),
                headers={"Content-Type": "application/x-www-form-urlencoded"},
            )
        assert answer.status_code in (303, 400, 403, 404), answer.text[:300]
        assert "Traceback" not in answer.text and "<script>alert(1)" not in answer.text
        where = answer.headers.get("location", "/")
        assert where.startswith("/") and not where.startswith("//")

    holds()
    for row in query(root, "select reviewer, mark, note from reviews").to_pylist():
        assert row["mark"] in ("confirmed", "rejected", "out of distribution") and 0 < len(row["reviewer"]) <= 100


PATHS = ["/", "/compare", "/runs/run", "/runs/run/compare", "/runs/run/explanations", "/runs/run/groups", "/runs/run/pictures",
         "/runs/run/report", "/runs/run/review", "/runs/run/trend", "/sql", "/sql.csv", "/style.css", "/nothing"]  # fmt: skip
KEYS = [
    "q",
    "sql",
    "sort",
    "page",
    "label",
    "filter",
    "by",
    "x",
    "y",
    "view",
    "runs",
    "a",
    "b",
    "min",
    "max",
    "method",
    "attribute",
]


def test_an_address_of_any_kind_is_a_page_or_refused(client: TestClient) -> None:
    @examples(6, 1500)
    @given(st.sampled_from(PATHS), st.lists(odd, max_size=3), st.dictionaries(st.sampled_from(KEYS), odd, max_size=3))
    def holds(path: str, more: list[str], asked: dict[str, str]) -> None:
        rest = "".join("/" + quote(part.encode(errors="replace"), safe="") for part in more)
        with bounded(512, 30):
            answer = client.get(path + rest, params={key: value.encode(errors="replace") for key, value in asked.items()})
        assert answer.status_code in (200, 303, 307, 400, 404), (answer.status_code, answer.text[:300])
        assert "Traceback" not in answer.text and "<script>alert(1)" not in answer.text
        assert answer.headers["X-Content-Type-Options"] == "nosniff" and "Content-Security-Policy" in answer.headers

    holds()
