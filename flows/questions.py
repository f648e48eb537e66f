"""The worked questions with their answers:  python -m flows.questions cfx-demo/warehouse > docs/how-to/questions/README.md"""

from __future__ import annotations

import sys
from pathlib import Path

from warehouse.lens.ask import ask
from warehouse.report.formatting import markdown_table

FOLDER = Path(__file__).parent.parent / "docs" / "how-to" / "questions"
OPENING = """# Worked questions

Each is an .sql file of this folder; the answers are those of the demo (`make demo`), printed by
`python -m flows.questions cfx-demo/warehouse`. Ask one yourself with

    .venv/bin/cfx query docs/how-to/questions/01-what-does-it-lean-on.sql

and see [every fact and view](../../reference/warehouse.md).
"""


def worked(root: Path) -> str:
    """Every question of docs/how-to/questions as Markdown: its words, its SQL, its answer in this warehouse."""
    parts = [OPENING]
    for number, path in enumerate(sorted(FOLDER.glob("*.sql")), 1):
        question, _, sql = path.read_text(encoding="utf-8").partition("\n")
        answer = ask(root, sql).rows
        table = markdown_table(answer.column_names, [list(row.values()) for row in answer.to_pylist()])
        said = table if answer.num_rows else "None: no row answers it."
        parts.append(f"## {number}. {question.removeprefix('-- ')}\n\n```sql\n{sql.strip()}\n```\n\n{said}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(worked(Path(sys.argv[1])), end="")  # noqa: T201
