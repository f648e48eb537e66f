"""One audit as one page."""
