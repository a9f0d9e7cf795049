"""Objects of a training run: the model under its policy, its optimizer, and the schedule."""
