"""Training from folders and on Portraits."""
