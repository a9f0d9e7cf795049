"""Images per second of our image pipeline, as a ratio to that of torchvision's reference script.

    python tests/benchmarks/data_pipeline.py --rounds 9

Both read the same generated JPEG files with ``ImageFolder``'s layout, cut, flip and normalise them
as for ImageNet, and give batches of 32. They take turns within each round, since a shared machine
is never equally busy for long. Theirs is the preset of ``references/classification`` with its
default backend: PIL images and the transforms of ``torchvision.transforms``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, RandomSampler, default_collate
from torchvision import transforms
from torchvision.datasets import ImageFolder

from fxbio.train.data import DataConfig, EpochSampler, make_loader, open_data
from fxbio.train.data.make_shapes import make_shapes

BATCH = 32
SIZE = 400
"""Of the generated images; those of ImageNet are about that large."""


def theirs(folder: Path, workers: int) -> DataLoader[Any]:
    """As in torchvision's train.py and presets.py."""
    steps = [
        transforms.RandomResizedCrop(224, antialias=True),
        transforms.RandomHorizontalFlip(0.5),
        transforms.PILToTensor(),
        transforms.ConvertImageDtype(torch.float),
        transforms.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    ]
    dataset = ImageFolder(str(folder / "train"), transforms.Compose(steps))
    return DataLoader(
        dataset,
        batch_size=BATCH,
        sampler=RandomSampler(dataset),
        num_workers=workers,
        collate_fn=default_collate,
        persistent_workers=workers > 0,
    )


def ours(folder: Path, workers: int) -> DataLoader[Any]:
    """The defaults of ``data: {name: folder}``."""
    train = open_data(DataConfig(path=folder)).train
    size: int = len(train)  # type: ignore[arg-type]
    return make_loader(
        train,
        batch_size=BATCH,
        sampler=EpochSampler(size, batch_size=BATCH),
        workers=workers,
        collate=default_collate,
        seed=0,
    )


def rate(loader: Iterable[Any]) -> float:
    """Images per second of one epoch."""
    start = time.perf_counter()
    images = sum(len(batch[0]) for batch in loader)
    return images / (time.perf_counter() - start)


def measure(folder: Path, workers: int, rounds: int) -> None:
    """Print the median of the ratios, with the quartiles."""
    reference, own = theirs(folder, workers), ours(folder, workers)
    for loader in (reference, own):
        rate(loader)  # workers start, files come into the cache
    pairs = [(rate(reference), rate(own)) for _ in range(rounds)]
    low, middle, high = statistics.quantiles([b / a for a, b in pairs], n=4)
    print(
        f"{workers} workers: torchvision {statistics.median(a for a, _ in pairs):.0f} images/s, "
        f"fxbio {statistics.median(b for _, b in pairs):.0f}, "
        f"ratio {middle:.3f} ({low:.3f} … {high:.3f}), {rounds} rounds"
    )


def main() -> None:
    """Measure without workers, and with as many as were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "data"
        make_shapes(folder, images=arguments.images, size=SIZE)
        for workers in arguments.workers:
            measure(folder, workers, arguments.rounds)


if __name__ == "__main__":
    main()
