"""Output of a run: its folder, its status, metrics and progress."""
