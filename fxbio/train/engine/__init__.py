"""The loop: steps, evaluations, checkpoints, and what happens when one of them fails."""
