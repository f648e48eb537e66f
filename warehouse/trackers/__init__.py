"""Where teams look: what a run found, written by the clients of experiment trackers and monitoring."""
