"""Pages over a warehouse, served on this machine."""
