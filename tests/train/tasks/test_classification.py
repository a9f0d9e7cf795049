from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxbio.errors import ConfigError, DataError, ModelError
from fxbio.train.data import DataSource
from fxbio.train.data.sets import ArraySet, PreparedSet
from fxbio.train.tasks import TaskConfig, make_task

CLASSES = 7


def source(samples: int = 9, classes: int = CLASSES) -> DataSource:
    images = torch.arange(samples, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 8, 8)
    raw = ArraySet(images, torch.arange(samples) % classes)
    half = PreparedSet(raw, lambda image, label: (image.float(), label))
    return DataSource(half, half, tuple(map(str, range(classes))), "classification")


def task(classes: int = CLASSES, **options: float) -> Any:
    return make_task(TaskConfig(**options), source(classes=classes))


def gives(output: Any) -> Any:
    """A model with that output."""
    return lambda images: output


LOGITS = torch.tensor(
    [
        [9.0, 8, 7, 6, 5, 4, 3],
        [9.0, 8, 7, 6, 5, 4, 3],
        [9.0, 8, 7, 6, 5, 4, 3],
        [0.0, 1, 2, 3, 4, 5, 6],
    ]
)
TARGETS = torch.tensor([0, 4, 5, 6])
"""The first and the last are right at once, the second is the fifth guess, the third the sixth."""


def test_top_1_and_top_5_by_hand() -> None:
    evaluator = task().new_evaluator(source(4))
    evaluator.update(LOGITS[:3], (torch.zeros(3), TARGETS[:3]))
    evaluator.update(LOGITS[3:], (torch.zeros(1), TARGETS[3:]))
    found = evaluator.merge()
    assert found == {
        "samples": 4,
        "top1": 2 / 4,
        "top5": 3 / 4,
        "loss": pytest.approx(float(F.cross_entropy(LOGITS, TARGETS))),
    }
    assert evaluator.notes() == ()


def test_five_classes_have_no_top_5() -> None:
    evaluator = task(classes=5).new_evaluator(source(4), partial=True)
    evaluator.update(LOGITS[:2, :5], (torch.zeros(2), TARGETS[:2]))
    assert set(evaluator.merge()) == {"samples", "top1", "loss"}


def test_every_sample_has_to_be_counted() -> None:
    evaluator = task().new_evaluator(source(9))
    evaluator.update(LOGITS, (torch.zeros(4), TARGETS))
    with pytest.raises(DataError, match="the evaluation saw 4 samples of 9"):
        evaluator.merge()
    partial = task().new_evaluator(source(9), partial=True)
    partial.update(LOGITS, (torch.zeros(4), TARGETS))
    assert partial.merge()["samples"] == 4


def test_the_loss_is_cross_entropy_with_smoothing() -> None:
    batch = (torch.zeros(4, 1), TARGETS)
    loss = task(label_smoothing=0.1).loss(gives(LOGITS), batch)
    assert set(loss) == {"loss"}
    shares = torch.full((4, CLASSES), 0.1 / CLASSES)
    shares[torch.arange(4), TARGETS] += 0.9
    torch.testing.assert_close(loss["loss"], cross_entropy(shares))


def cross_entropy(shares: Tensor) -> Tensor:
    return -(shares * LOGITS.log_softmax(1)).sum(1).mean()


def test_smoothing_of_mixed_targets() -> None:
    shares = torch.rand(4, CLASSES, generator=torch.Generator().manual_seed(0)).softmax(1)
    smoothed = 0.9 * shares + 0.1 / CLASSES
    found = task(label_smoothing=0.1, mixup=1.0).loss(gives(LOGITS), (torch.zeros(4, 1), shares))
    torch.testing.assert_close(found["loss"], cross_entropy(smoothed))


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1}])
def test_mixing_gives_soft_targets_and_the_generator_decides(options: dict[str, float]) -> None:
    samples = [source().train[k] for k in range(4)]
    batches = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        batches.append(task(**options).collate(samples))
    (images, targets), same, other = batches
    assert images.shape == (4, 1, 8, 8)
    assert targets.shape == (4, CLASSES)
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
    assert all(torch.equal(a, b) for a, b in zip((images, targets), same, strict=True))
    assert not torch.equal(images, other[0])
    loss = task(**options).loss(gives(LOGITS), (images, targets))["loss"]
    torch.testing.assert_close(loss, cross_entropy(targets))


def mixed(**options: float) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
    """The share of each image's own label, and images and labels after and before mixing."""
    half = source().train
    samples = [half[k] for k in range(4)]
    images, labels = task().collate_eval(samples)
    hot = F.one_hot(labels, CLASSES).float()
    torch.manual_seed(0)
    for _ in range(20):
        after, targets = task(**options).collate(samples)
        yield targets[torch.arange(4), labels], after, targets, images, hot


def test_mixup_mixes_images_and_labels_alike() -> None:
    """λx + (1 − λ)x' with x' the image before, one λ for the batch (Zhang et al. 2018)."""
    shares = set()
    for own, after, targets, images, labels in mixed(mixup=0.4):
        share = own[0]
        shares.add(round(float(share), 4))
        torch.testing.assert_close(after, share * images + (1 - share) * images.roll(1, 0))
        torch.testing.assert_close(targets, share * labels + (1 - share) * labels.roll(1, 0))
    assert len(shares) == 20


def test_cutmix_counts_the_pixels_of_each_image() -> None:
    """A rectangle of the image before, whose share of the area the label gets (Yun et al. 2019)."""
    for own, after, targets, images, labels in mixed(cutmix=1.0):
        kept = after == images
        assert torch.equal(after, torch.where(kept, images, images.roll(1, 0)))
        torch.testing.assert_close(own, kept.float().mean((1, 2, 3)))
        pasted = (~kept[0, 0]).nonzero()
        sides = pasted.amax(0) - pasted.amin(0) + 1 if len(pasted) else torch.zeros(2)
        assert int(sides.prod()) == len(pasted)
        torch.testing.assert_close(
            targets, own[:, None] * labels + (1 - own)[:, None] * labels.roll(1, 0)
        )


def test_mixup_draws_from_the_beta_distribution() -> None:
    """Its variance is 1 / (4 (2α + 1)) and its mean a half."""
    half = source().train
    samples = [half[0], half[1]]
    torch.manual_seed(0)
    shares = torch.stack([task(mixup=0.4).collate(samples)[1][0, 0] for _ in range(2000)])
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(shares.var()) == pytest.approx(1 / (4 * 1.8), rel=0.1)


def test_validation_is_never_mixed() -> None:
    samples = [source().val[k] for k in range(4)]
    images, labels = task(mixup=1.0).collate_eval(samples)
    assert labels.tolist() == [0, 1, 2, 3]
    assert torch.equal(images[2], samples[2][0])


def test_example_inputs_and_moving() -> None:
    assert task().example_inputs(source()).shape == (2, 1, 8, 8)
    batch = (torch.zeros(4, 3, 8, 8), TARGETS)
    images, _ = task().move(batch, torch.device("cpu"), torch.channels_last)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert task().size(batch) == 4


def test_logits_may_be_wrapped() -> None:
    wrapped = SimpleNamespace(logits=LOGITS)
    batch = (torch.zeros(4, 1), TARGETS)
    assert task().loss(gives(wrapped), batch)["loss"] == F.cross_entropy(LOGITS, TARGETS)


Call = Callable[[Any, nn.Module, tuple[Tensor, Tensor]], Any]


@pytest.mark.parametrize("call", [lambda t, *a: t.loss(*a), lambda t, *a: t.predict(*a)])
@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ((LOGITS, LOGITS), {}, "a classifier gives logits"),
        (LOGITS[0], {}, "a classifier gives logits"),
        (LOGITS[:, :6], {}, "the data has 7 classes, the model gives 6 logits"),
        (torch.zeros(4, 8), {"mixup": 1.0}, "the data has 7 classes, the model gives 8 logits"),
    ],
)
def test_outputs_that_are_refused(
    call: Call, output: Any, options: dict[str, float], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        call(task(**options), gives(output), (torch.zeros(4, 1), TARGETS))


@pytest.mark.parametrize("options", [{"mixup": -1.0}, {"label_smoothing": 1.5}])
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))} must be"):
        task(**options)
