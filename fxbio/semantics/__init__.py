"""Semantics of operations: the table of those with weights; the ways of weights and errors."""
