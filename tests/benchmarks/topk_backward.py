"""Backward time of ``topk{unified=true}`` beside backprop on the MLP of a ViT-B block, as a ratio.

python tests/benchmarks/topk_backward.py [--device cuda] [--share 0.1]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor, nn

import fxbio

TOKENS, WIDTH, ROUNDS = 8 * 197, 768, 7


def main() -> None:
    """Interleaved rounds in one process; prints the median of each and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--share", type=float, default=0.1)
    options = parser.parse_args()
    mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
    x = torch.randn(TOKENS, WIDTH, device=options.device, requires_grad=True)
    mlp = mlp.to(options.device)
    spec = f"topk{{share={options.share},unified=true}}"
    policy = fxbio.Policy.from_yaml(f"version: 1\ndefault: {{rule: bp, error: '{spec}'}}\n")
    models = {"backprop": mlp, spec: fxbio.transform(mlp, policy, x.detach())}
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS):
        for name, model in models.items():
            times[name].append(backward_time(model, x))
    medians = {name: statistics.median(found[1:]) for name, found in times.items()}
    for name, median in medians.items():
        print(f"{name:32} {1e3 * median:8.2f} ms")
    print(f"backprop / topk: {medians['backprop'] / medians[spec]:.2f}")


def backward_time(model: nn.Module, x: Tensor) -> float:
    """Seconds of one backward pass."""
    out = model(x)
    error = torch.randn_like(out)
    _wait(x)
    start = time.perf_counter()
    out.backward(error)
    _wait(x)
    return time.perf_counter() - start


def _wait(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
