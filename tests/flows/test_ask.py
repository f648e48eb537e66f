"""Asking a warehouse from the command line and from a notebook, as a new user would."""

import base64
import io
import json
import re
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import cfx
from flows.cli import app
from flows.questions import FOLDER, worked
from warehouse.lens.answer_table import printed
from warehouse.lens.ask import ask
from warehouse.lens.groups import GROUP_OF
from warehouse.lens.names import OLD_VIEWS

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "warehouse"))
from portrait_run import write_portrait_run  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's warehouse in it, made of drawn facts."""
    folder = tmp_path_factory.mktemp("demo")
    write_portrait_run(folder / "cfx-demo" / "warehouse", "planted-demo", n=64, size=32)
    write_portrait_run(folder / "cfx-demo" / "warehouse", "clean-demo", n=64, size=32, planted=False)
    return folder


def answered(folder: Path, *arguments: str) -> tuple[int, bytes]:
    ended = CliRunner().invoke(app, ["query", *arguments, "--warehouse", str(folder / "cfx-demo" / "warehouse")])
    return ended.exit_code, ended.stdout_bytes or ended.stderr_bytes


COUNTS = "select name, count(*)::int as n from outcomes join audits using (run_id) group by name order by name"


def test_an_answer_in_each_form(folder: Path, tmp_path: Path) -> None:
    assert b"clean" in answered(folder, COUNTS)[1]
    assert answered(folder, COUNTS, "-f", "csv") == (0, b'"name","n"\n"clean",64\n"planted",64\n')
    assert json.loads(answered(folder, COUNTS, "-f", "json")[1]) == [{"name": "clean", "n": 64}, {"name": "planted", "n": 64}]
    assert answered(folder, COUNTS, "-f", "parquet", "-o", str(tmp_path / "a.parquet"))[0] == 0
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [{"name": "clean", "n": 64}, {"name": "planted", "n": 64}]


def test_images_and_lists_fit_into_text(folder: Path) -> None:
    sql = "select png, [1, 2] as pair from images limit 1"
    [row] = json.loads(answered(folder, sql, "-f", "json")[1])
    assert Image.open(io.BytesIO(base64.b64decode(row["png"]))).size == (32, 32)
    assert pd.read_csv(io.BytesIO(answered(folder, sql, "-f", "csv")[1]))["pair"].tolist() == ["[1, 2]"]


def test_wrong_queries_end_with_a_message(folder: Path) -> None:
    for sql, words in {"select colour from runs": b"colour", "drop view cd": b"read-only", "nowhere.sql": b"nowhere.sql"}.items():
        code, said = answered(folder, sql)
        assert code == 2 and words in said


def test_a_query_that_takes_too_long_is_stopped(folder: Path) -> None:
    code, said = answered(folder, "select count(*) from range(10000000) a, range(10000000) b", "--timeout", "0.5")
    assert code == 2 and b"query timed out after 0.5 s; raise --timeout" in said


def test_the_old_name_of_the_timeout_works_with_a_warning(folder: Path) -> None:
    code, said = answered(folder, "select count(*) from range(10000000) a, range(10000000) b", "--seconds", "0.5")
    assert code == 2 and b"query timed out after 0.5 s" in said and b"--seconds is the old name of --timeout" in said
    assert answered(folder, "select 1 as one", "--seconds", "5")[0] == 0


def test_a_view_is_described_column_by_column(folder: Path) -> None:
    root = str(folder / "cfx-demo" / "warehouse")
    page = CliRunner().invoke(app, ["views", "fr", "-w", root]).stdout
    assert "share, 0 to 1" in page and "create view fr as" in page
    assert CliRunner().invoke(app, ["views", "fx", "-w", root]).exit_code == 2


def test_the_list_of_views_is_one_screen_with_every_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.commands.ask.out", Console(width=80))
    lines = CliRunner().invoke(app, ["views"]).stdout.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 80 and not any("…" in line for line in lines)
    words = set(re.findall(r"\w+", " ".join(lines)))
    assert set(GROUP_OF) - set(OLD_VIEWS) <= words
    assert lines[0] == "start here" and lines[1].split()[0] == "findings"
    every = CliRunner().invoke(app, ["views", "--all"]).stdout
    assert all(f"\n  {name} " in every for name in GROUP_OF) and "old name of attribute_scores" in every


def test_a_view_is_described_with_a_first_query_that_has_been_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.commands.ask.out", Console(width=100))
    root = str(folder / "cfx-demo" / "warehouse")
    page = CliRunner().invoke(app, ["docs", "predictions", "-w", root]).stdout
    assert max(map(len, page.splitlines())) <= 100
    assert "predicted      varchar  the most probable class" in page and "class (predicted)" in page
    assert (
        'cfx query "select path, label, predicted' in page
        and "no rows" in page
        and "made of: facts.predictions, images, runs" in page
    )
    assert "create view" not in page and "create view lens.predictions" in CliRunner().invoke(
        app, ["docs", "predictions", "-w", root, "--sql"]
    ).stdout.replace("\n", " ")
    refused = CliRunner().invoke(app, ["docs", "prediction", "-w", root])
    assert refused.exit_code == 2 and "did you mean predictions?" in refused.stderr


def test_machines_read_every_view_as_json(folder: Path) -> None:
    root = str(folder / "cfx-demo" / "warehouse")
    [found] = json.loads(CliRunner().invoke(app, ["views", "accuracy", "--json", "-w", root]).stdout)
    assert (found["kind"], found["group"], found["old_name_of"]) == ("view", "start here", None)
    columns = {column["name"]: column for column in found["columns"]}
    assert columns["value"]["old_name_of"] == "accuracy" and columns["n"]["meaning"] == "images"


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("view", ["runs", "outcomes", "images", "accuracy"])
def test_whole_views_are_readable_on_a_terminal(folder: Path, view: str, width: int) -> None:
    rows = ask(folder / "cfx-demo" / "warehouse", f"select * from {view}").rows
    said = printed(rows, width)
    assert max(map(len, said.splitlines())) <= width
    assert "clean-demo" in said and '{"' not in said and "\\x" not in said


def test_old_names_are_noted_beside_the_answer_not_in_it(folder: Path) -> None:
    arguments = ["query", "select class from predictions limit 1", "-f", "csv", "-w", str(folder / "cfx-demo" / "warehouse")]
    ended = CliRunner().invoke(app, arguments)
    assert ended.stdout.startswith('"class"') and "note" not in ended.stdout
    assert "predictions.class is the old name of predictions.predicted" in ended.stderr


def test_the_twelve_questions_have_answers(folder: Path) -> None:
    page = worked(folder / "cfx-demo" / "warehouse")
    assert len(list(FOLDER.glob("*.sql"))) == 12
    assert page.count("\n## ") == 12 and page.count("None: no row answers it.") == 0
    committed = (FOLDER / "README.md").read_text()
    for path in FOLDER.glob("*.sql"):  # the page is of these files; its answers are checked on the demo itself
        question, _, sql = path.read_text().partition("\n")
        assert question.removeprefix("-- ") in committed and sql.strip() in committed


def test_the_notebook_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "examples" / "ask.ipynb", as_version=4)
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(folder)}}).execute()
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert "planted-demo" in first.outputs[0]["data"]["text/plain"]


def test_the_door_tells_where_there_is_no_warehouse(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="cfx demo"):
        cfx.open(tmp_path / "nowhere")
