"""The reading door: SQL, views and the report. Imports no torch, so that a question is answered at once."""

from warehouse.connect import query, views
from warehouse.report import write_report

__all__ = ["query", "views", "write_report"]
