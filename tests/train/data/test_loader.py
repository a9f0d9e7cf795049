from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fxbio.errors import DataError
from fxbio.train.data import DataConfig, DataSource, EpochSampler, make_loader, open_data
from fxbio.train.data.make_shapes import make_shapes
from fxbio.train.tasks import TaskConfig, make_task

SIZE, BATCH = 20, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(path, images=SIZE, size=24)
    return path


@pytest.fixture
def source(folder: Path) -> DataSource:
    """With everything that draws random numbers."""
    config = DataConfig(path=folder, image_size=16, auto_augment="randaugment", random_erase=0.5)
    return open_data(config)


def batches(source: DataSource, sampler: EpochSampler, workers: int = 0) -> list[Any]:
    task = make_task(TaskConfig(mixup=0.2, cutmix=1.0), source)
    return list(
        make_loader(
            source.train,
            batch_size=BATCH,
            sampler=sampler,
            workers=workers,
            collate=task.collate,
            seed=3,
        )
    )


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b)
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left, right, strict=True)
    )


def test_no_more_workers_than_processors(
    source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch would warn, and the machine would be slower for it; the batches are the same."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)
    loader = make_loader(
        source.train, batch_size=BATCH, sampler=sampler(), workers=4, collate=list, seed=3
    )
    assert loader.num_workers == 1


def sampler(epoch: int = 0) -> EpochSampler:
    made = EpochSampler(SIZE, batch_size=BATCH)
    made.set_epoch(epoch)
    return made


def test_batches_do_not_depend_on_the_number_of_workers(source: DataSource) -> None:
    assert same(batches(source, sampler(), workers=0), batches(source, sampler(), workers=2))


def test_batches_after_a_resume_are_those_of_the_whole_epoch(source: DataSource) -> None:
    whole = batches(source, sampler(2))
    resumed = sampler(2)
    resumed.advance(2 * BATCH)
    assert same(batches(source, resumed), whole[2:])


def test_epochs_differ_in_their_augmentations(source: DataSource) -> None:
    in_order = EpochSampler(SIZE, batch_size=BATCH, shuffle=False)
    first = batches(source, in_order)
    in_order.set_epoch(1)
    assert not same(first, batches(source, in_order))


def test_the_global_generator_is_left_alone(source: DataSource) -> None:
    before = torch.get_rng_state()
    batches(source, sampler())
    assert torch.equal(torch.get_rng_state(), before)


class Handlers(Dataset[Tensor]):
    """What a worker does when it gets a signal."""

    def __getitem__(self, index: int) -> Tensor:
        names = (signal.SIGTERM, signal.SIGINT)
        return torch.tensor([signal.getsignal(name) is signal.SIG_IGN for name in names])


def test_workers_ignore_the_signals_that_stop_training() -> None:
    loader = make_loader(
        Handlers(),
        batch_size=2,
        sampler=EpochSampler(2, batch_size=2),
        workers=1,
        collate=torch.stack,
        seed=0,
    )
    assert all(batch.all() for batch in loader)


@pytest.fixture
def damage(folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of the folder with two bad files."""

    def copy(content: str) -> Path:
        make_shapes(tmp_path / "copy", images=SIZE, size=24)
        for name in ("000000", "000005"):
            path = tmp_path / "copy" / "train" / "circle" / f"{name}.jpg"
            path.write_bytes(path.read_bytes()[:200] if content == "cut off" else b"hello")
        return tmp_path / "copy"

    return copy


def failure(source: DataSource, workers: int) -> str:
    """The message alone: who keeps the error keeps the loader and its workers."""
    try:
        batches(source, sampler(), workers)
    except DataError as error:
        return str(error)
    raise AssertionError("no error")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("content", ["cut off", "no image"])
def test_a_corrupt_image_is_an_error_that_names_it(
    damage: Callable[[str], Path], content: str, workers: int
) -> None:
    source = open_data(DataConfig(path=damage(content), image_size=16))
    message = failure(source, workers)
    assert "circle/00000" in message.splitlines()[0]
    assert "cannot be read as an image" in message.splitlines()[0]
    assert "data.on_bad_image=skip" in message


@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_images_can_be_skipped_and_are_counted_once(
    damage: Callable[[str], Path], workers: int
) -> None:
    config = DataConfig(path=damage("cut off"), image_size=16, on_bad_image="skip")
    source = open_data(config)
    assert source.skipped() == ()
    for epoch in range(2):
        found = batches(source, sampler(epoch), workers)
        assert sum(len(images) for images, _ in found) == SIZE
    assert [Path(name).stem for name in source.skipped()] == ["000000", "000005"]


def test_a_set_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", images=5, size=16)
    for path in (tmp_path / "shapes" / "train").rglob("*.jpg"):
        path.write_bytes(b"")
    source = open_data(DataConfig(path=tmp_path / "shapes", on_bad_image="skip"))
    with pytest.raises(DataError, match="none of the training images can be read"):
        batches(source, EpochSampler(5, batch_size=BATCH))


SCRIPT = """
import sys
from pathlib import Path
from fxbio.train.data import DataConfig, EpochSampler, make_loader, open_data
source = open_data(DataConfig(path=Path(sys.argv[1]), image_size=16))
loader = make_loader(
    source.train,
    batch_size=2,
    sampler=EpochSampler(20, batch_size=2),
    workers=2,
    collate=list,
    seed=0,
)
batches = iter(loader)
next(batches)
raise SystemExit(7)
"""


def test_a_process_that_leaves_in_mid_epoch_does_not_wait_for_its_workers(folder: Path) -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT, str(folder)], timeout=60)
    assert result.returncode == 7
