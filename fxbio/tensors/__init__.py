"""Tensors of any kind: their storages, shapes, and whether gradients are computed."""
