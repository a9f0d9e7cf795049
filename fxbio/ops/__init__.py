"""Custom operators: the only files with backward formulas.

They are ``torch.library`` ops with a registered autograd formula, the one form that survives
``torch.export``, re-tracing by ``torch.fx`` and pickling; an ``autograd.Function`` silently turns
back into backprop there.
"""

from fxbio.ops.add_loss import add_loss
from fxbio.ops.convolution import convolution
from fxbio.ops.einsum import einsum
from fxbio.ops.embedding import embedding
from fxbio.ops.linear import linear
from fxbio.ops.matmul import addmm, matmul
from fxbio.ops.norm import batch_norm, group_norm, instance_norm, layer_norm
from fxbio.ops.rms_norm import rms_norm

__all__ = [
    "add_loss",
    "addmm",
    "batch_norm",
    "convolution",
    "einsum",
    "embedding",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "linear",
    "matmul",
    "rms_norm",
]
