"""The reading door: SQL, views and the report. Imports no torch, so that a question is answered at once."""

from warehouse.connect import query, views
from warehouse.report import report_path, write_report

__all__ = ["query", "report_path", "views", "write_report"]
