"""784-512-512-10, the MNIST net of product feedback alignment (Ji-An & Benna, arXiv 2405.20594).

It has ReLU there; ``--model-arg activation=tanh`` is for rules that want a saturating unit.
"""

import torch
from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


class Perceptron(nn.Module):
    """Takes (N, 1, 28, 28) images and gives (N, 10) logits."""

    def __init__(self, activation: str = "relu") -> None:
        super().__init__()
        unit = ACTIVATIONS[activation]
        self.hidden1 = nn.Sequential(nn.Linear(784, 512), unit())
        self.hidden2 = nn.Sequential(nn.Linear(512, 512), unit())
        self.output = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.hidden2(self.hidden1(x.flatten(1))))


def example_inputs() -> Tensor:
    """A batch of two images."""
    return torch.rand(2, 1, 28, 28)
