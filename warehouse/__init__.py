"""Facts in Parquet, a lens over them in DuckDB."""
