"""Random numbers of one sample: they depend on the run, the epoch and the sample, nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["mixed_seed", "seeded"]


def mixed_seed(*parts: int | str) -> int:
    """A seed from several numbers, the same on every machine; related parts give unrelated seeds.

    It has 32 bits, since torch's generator on the CPU looks at no more.
    """
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


@contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Draw from a generator of one's own inside; afterwards torch's generator is as before.

    Only the generator of the CPU is touched, whereas ``torch.manual_seed`` reseeds every device.
    """
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(mixed_seed(*parts))
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
