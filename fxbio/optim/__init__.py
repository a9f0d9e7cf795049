"""Constraints of the source papers that attach to any ``torch.optim`` optimizer.

They use the optimizer's public hooks, so the object stays the same: schedulers, ``GradScaler`` and
checkpoints keep working, and so do the foreach and fused implementations::

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    fxbio.optim.batch_manhattan(optimizer)
    fxbio.optim.no_sign_change(optimizer)
    fxbio.optim.strict_norm(optimizer)

``batch_manhattan`` acts before the step and the others after it, in the order in which they were
attached. Attach ``no_sign_change`` before ``strict_norm``: a positive factor changes no sign, but
a weight that is held back changes the norm. Copying or pickling an optimizer drops its hooks.
"""

from fxbio.optim.attachment import Attachment
from fxbio.optim.batch_manhattan import batch_manhattan
from fxbio.optim.no_sign_change import no_sign_change
from fxbio.optim.strict_norm import strict_norm

__all__ = ["Attachment", "batch_manhattan", "no_sign_change", "strict_norm"]
