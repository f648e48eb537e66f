"""The commands of `cfx`, a file a family. Each is a thin door to a function that a notebook can call."""
