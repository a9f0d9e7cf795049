"""Binding: the rewritten operations put in the place of the user's own, and taken out again."""
