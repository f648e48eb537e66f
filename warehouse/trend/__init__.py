"""An audit night after night: what is watched, what has changed, and what is an alarm."""
