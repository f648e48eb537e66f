"""The reading door: SQL, views and the report. Imports no torch, so that a question is answered at once."""

from warehouse.connect import query, views
from warehouse.pdf import write_pdf
from warehouse.prune import expired, forget
from warehouse.reference import meaning_of
from warehouse.report import report_path, write_report
from warehouse.storage import warehouse_at
from warehouse.wording import markdown_table

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
