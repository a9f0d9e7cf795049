"""What operations are: the table of those that apply weights, and how weights and errors travel."""
