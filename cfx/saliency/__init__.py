"""Saliency maps of a classifier, and tests of them."""
