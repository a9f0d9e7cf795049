"""Naming a model: from ``model.py:build`` or ``torchvision:resnet18`` to a built module."""

from fxbio.models.load_model import GRAMMAR, LoadedModel, load_reference
from fxbio.models.model_args import parse_model_args
from fxbio.models.weights import load_weights

__all__ = ["GRAMMAR", "LoadedModel", "load_reference", "load_weights", "parse_model_args"]
