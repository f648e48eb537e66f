"""The reading door: SQL, views and the report. Imports no torch, so that a question is answered at once."""

from warehouse.facts.storage import warehouse_at
from warehouse.lens.connect import query, views
from warehouse.lens.prune import expired, forget
from warehouse.lens.reference import meaning_of
from warehouse.report.formatting import markdown_table
from warehouse.report.pdf import write_pdf
from warehouse.report.render import report_path, write_report

__all__ = [
    "expired",
    "forget",
    "markdown_table",
    "meaning_of",
    "query",
    "report_path",
    "views",
    "warehouse_at",
    "write_pdf",
    "write_report",
]
