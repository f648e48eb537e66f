"""The version, in a file of its own: who needs it must not import what `cfx` offers to programs."""

__version__ = "0.2.0"  # pyproject.toml reads it here
