"""What is trained: the model under its policy, its optimizer, and the schedule."""
