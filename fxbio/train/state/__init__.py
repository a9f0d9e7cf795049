"""The state of a run: taken, written, found again and put back."""
