"""Attributes of an image: who names them (the oracle), and who edits one alone."""
