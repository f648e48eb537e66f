"""Architectures: cfx's own, and those whose published weights are read."""
