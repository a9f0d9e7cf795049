"""A small convolutional net for MNIST, with strides in place of pooling, and without norms."""

import torch
from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


class ConvNet(nn.Module):
    """Takes (N, 1, 28, 28) images and gives (N, 10) logits."""

    def __init__(self, activation: str = "relu") -> None:
        super().__init__()
        unit = ACTIVATIONS[activation]
        self.hidden1 = nn.Sequential(nn.Conv2d(1, 16, 5, stride=2, padding=2), unit())
        self.hidden2 = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), unit())
        self.hidden3 = nn.Sequential(nn.Flatten(), nn.Linear(32 * 7 * 7, 128), unit())
        self.output = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.hidden3(self.hidden2(self.hidden1(x))))


def example_inputs() -> Tensor:
    """A batch of two images."""
    return torch.rand(2, 1, 28, 28)
