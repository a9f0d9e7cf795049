"""Lowering: the way back of a plan, written into the captured graph as nodes."""
