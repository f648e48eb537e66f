"""DuckDB over the facts: views, read-only questions, the gate."""
