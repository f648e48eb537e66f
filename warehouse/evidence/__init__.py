"""A report verified against its facts, a run as one archive."""
