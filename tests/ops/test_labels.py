"""Labels are recovered from the errors of a cross-entropy, and from no others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fxbio.errors import ModelError
from fxbio.ops.labels import recovered_labels

N, K = 16, 10
Loss = Callable[[Tensor, Tensor], Tensor]


def error_of(loss: Loss, scale: float, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    logits = (torch.randn(N, K) * scale).to(dtype).requires_grad_()
    labels = torch.randint(K, (N,))
    (error,) = torch.autograd.grad(loss(logits, labels), logits)
    return logits.detach(), error, labels


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_of_a_cross_entropy(smoothing: float, scale: float, dtype: torch.dtype) -> None:
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)

    logits, error, labels = error_of(loss, scale, dtype)
    expected = F.one_hot(labels, K) * (1 - smoothing) + smoothing / K
    close = {"atol": 0.1 if dtype is torch.bfloat16 else 1e-5, "rtol": 0.0}
    found = recovered_labels(logits, error, True)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(found, expected.to(found.dtype), **close)


def binary(logits: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, F.one_hot(labels, K).to(logits.dtype))


def squared(logits: Tensor, labels: Tensor) -> Tensor:
    return F.mse_loss(logits, F.one_hot(labels, K).to(logits.dtype))


def multi_margin(logits: Tensor, labels: Tensor) -> Tensor:
    return F.multilabel_soft_margin_loss(logits, F.one_hot(labels, K).to(logits.dtype))


@pytest.mark.parametrize("loss", [binary, squared, multi_margin])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_errors_of_other_losses_are_refused(loss: Loss, scale: float) -> None:
    logits, error, _ = error_of(loss, scale)
    with pytest.raises(ModelError, match="labels cannot be recovered from the error"):
        recovered_labels(logits, error, True)
