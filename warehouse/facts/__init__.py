"""Facts in Parquet: schemas, shards, where they lie."""
