"""Capture: from any PyTorch model to fx graphs, sites, and what lies between them."""
