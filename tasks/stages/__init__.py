"""The stages of an audit: each writes one fact."""
