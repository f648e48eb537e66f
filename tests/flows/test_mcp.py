"""`cfx mcp` as an agent meets it: the official client, a real process, standard input and output."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError, StdioServerParameters
from portrait_run import write_portrait_run
from typer.testing import CliRunner

from flows.cli import app
from tasks.reading.gate import Policy, set_policy
from warehouse.report.plain_text import PlainText

HOME = Path(__file__).parents[2]
PROGRAM = """
import sys
from flows.cli import app
try:
    app(sys.argv[1:], prog_name="cfx")
finally:
    heavy = [name for name in ("torch", "diffusers", "prefect") if name in sys.modules]
    open(sys.argv[-1] + ".imported", "w").write(" ".join(heavy))
"""
HOSTILE = (
    "delete from images",
    "select 1; drop view runs",
    "copy (select 1) to 'out.csv'",
    "attach 'other.db'",
    "set memory_limit = '1TB'",
    "pragma database_list",
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('/etc/passwd')",
    "install httpfs",
)


def test_a_report_as_text_has_its_words_and_its_rows_and_neither_sql_nor_style() -> None:
    page = """<html><head><title>t</title><style>p {}</style></head><body><a class="skip" href="#v">Skip</a><h1>Leans on
    glasses</h1><p>By <b>23</b> points.</p><table><tr><th>hat<span class="why">clear</span></th><td>&lt; 0.1</td></tr></table>
    <details class="sql"><summary>SQL</summary><pre>select 1</pre></details><svg><text>+1</text></svg><p>End.</p></body></html>"""
    assert PlainText(page).text == "# Leans on glasses\nBy 23 points.\nhat clear | < 0.1\nEnd.\n"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_agent_reads_the_warehouse_and_can_do_no_more(tmp_path: Path) -> None:
    root = tmp_path / "warehouse"
    write_portrait_run(root, "planted-run", n=24, size=16)
    set_policy(root, "planted-run", Policy(minimum_images=16))
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    started = StdioServerParameters(
        command=sys.executable, args=["-c", PROGRAM, "mcp", "-w", str(root)], env=os.environ | {"PYTHONPATH": str(HOME)}
    )

    async def session() -> None:
        async with Client(started) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert set(tools) == {"runs", "verdict", "findings", "gate", "report", "views", "describe", "query"}
            assert all(tool.annotations and tool.annotations.read_only_hint and tool.description for tool in tools.values())
            assert tools["query"].input_schema["required"] == ["sql"]

            async def said(tool: str, /, **values: Any) -> tuple[bool, str]:
                result = await client.call_tool(tool, values)
                return bool(result.is_error), "".join(getattr(part, "text", "") for part in result.content)

            async def answer_of(tool: str, /, **values: Any) -> Any:
                failed, text = await said(tool, **values)
                assert not failed, text
                return json.loads(text)

            [run] = await answer_of("runs")
            assert (run["run_id"], run["status"], run["images"]) == ("planted-run", "finished", 24)
            verdict = await answer_of("verdict", run="planted-run")
            assert verdict["headline"].endswith("may rely on glasses") and verdict["accuracy"]["value"] == 1
            assert (await answer_of("findings", run="planted-run"))[0]["name"] == "glasses"
            gate = await answer_of("gate", run="planted-run")
            assert gate["verdict"] == "inconclusive" and any("glasses effect" in reason for reason in gate["reasons"])
            assert (await said("report", run="nosuch"))[1].count("there is no run 'nosuch' in") == 1
            assert "worst_groups: Accuracy in each cell of label and attribute" in (await said("views"))[1]
            assert "- `rank` (integer): 1 for the lowest accuracy" in (await said("describe", name="worst_groups"))[1]

            answer = await answer_of("query", sql="select image_id, png from images order by 1", rows=3)
            assert len(answer["rows"]) == 3 and answer["more"] and answer["rows"][0]["png"].endswith("bytes>")
            assert await answer_of("query", sql="select 1 as one, 1 / 0 as none") == {
                "rows": [{"one": 1, "none": None}],
                "more": False,
            }
            assert (await answer_of("query", sql="describe runs"))["rows"][1]["column_name"] == "audit"
            slow = "select count(*) from range(1000000) a, range(1000000) b where a.range * b.range % 7 = 3"
            failed, text = await said("query", sql=slow, timeout=0.2)
            assert failed and text.endswith("query timed out after 0.2 s; raise `timeout` (at most 300), or query fewer rows")
            assert (await said("query", sql="select 1", rows=100_000))[0]
            assert "200,000 are sent" in (await said("query", sql="select repeat('x', 300000) as x"))[1]
            for sql in HOSTILE:
                failed, text = await said("query", sql=sql)
                assert failed and "root:" not in text and text != "Error executing tool query", (sql, text)  # a reason
            failed, text = await said("gate", run="nosuch")
            assert failed and "there is no run 'nosuch' in" in text and "planted-run" in text
            assert "there is no fact or view 'glasses'" in (await said("describe", name="glasses"))[1]
            failed, text = await said("query", sql="select nosuch from runs")
            assert failed and "there is no column 'nosuch' in runs" in text
            old = await answer_of("query", sql="select class from predictions", rows=1)
            assert old["notes"] == ["predictions.class is the old name of predictions.predicted"]

            pages = {str(page.uri_template) for page in (await client.list_resource_templates()).resource_templates}
            assert pages == {"cfx://views/{name}", "cfx://reports/{run}"}
            [page] = (await client.read_resource("cfx://views/worst_groups")).contents
            assert getattr(page, "text", "").startswith("# worst_groups\n\nAccuracy in each cell")
            with pytest.raises(MCPError, match="there is no run 'nosuch'"):
                await client.read_resource("cfx://reports/nosuch")

    anyio.run(session)
    imported = Path(str(root) + ".imported")
    assert imported.read_text() == ""  # neither torch nor Prefect
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before


def test_without_the_extra_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mcp", "mcp.server", "mcp.server.mcpserver"):
        monkeypatch.setitem(sys.modules, name, None)  # as where it is not installed
    monkeypatch.delitem(sys.modules, "tasks.reading.agents", raising=False)
    ended = CliRunner().invoke(app, ["mcp", "-w", str(tmp_path)])
    assert ended.exit_code == 2 and "needs the extra `mcp`: pip install 'cfx-audit[mcp]'" in ended.output
    ended = CliRunner().invoke(app, ["mcp", "-w", str(tmp_path / "none")])
    assert ended.exit_code == 2 and "there is no warehouse at" in ended.output
