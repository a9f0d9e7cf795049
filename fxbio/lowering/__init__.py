"""Lowering: the way back of a plan, written into the captured graph, and what it means for modules."""
