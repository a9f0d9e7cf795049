"""Target propagation: learned inverses, the losses they learn from, and the errors they send."""
