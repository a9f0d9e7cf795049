"""The sections of a recipe. Each field is a key; the text below it is its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from fxbio.files.fields import Mark, ReadAs
from fxbio.files.located_yaml import Node
from fxbio.files.typed_yaml import read_section
from fxbio.policy.entries import Where
from fxbio.target_propagation.phase import Phase
from fxbio.train.checked import above_zero, fail, not_negative, within

__all__ = [
    "CheckpointConfig",
    "GroupConfig",
    "LogConfig",
    "ModelConfig",
    "OptimConfig",
    "PolicyConfig",
    "ScheduleConfig",
    "TrainConfig",
]

_MOST_EPOCHS = 1_000_000
"""Of a time in the schedule, far beyond any run: as a number of steps it still is a number."""


@dataclass(frozen=True)
class ModelConfig:
    """Network to train."""

    reference: Annotated[str, Mark.NEAR_FILE]
    """torchvision:resnet18, model.py:build, timm:NAME, package.module:factory."""

    args: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of its builder."""

    weights: Path | None = None
    """A state dict to begin from, loaded strictly before feedback is made."""


@dataclass(frozen=True)
class PolicyConfig:
    """Learning rule of each weight: a policy file, or one rule for all."""

    file: Path | None = None
    """A policy in YAML."""

    rule: str | None = None
    """The rule of every weight, where there is no file; bp where there is none of the two."""

    options: Annotated[Mapping[str, Any], Mark.NEAR_FILE] = field(default_factory=dict)
    """Options of that rule."""

    plugins: tuple[Annotated[str, Mark.NEAR_FILE], ...] = ()
    """Files or modules that register rules of your own."""

    def __post_init__(self) -> None:
        for name in ("rule", "options"):
            if self.file is not None and getattr(self, name):
                notes = [f"the file: {self.file}", "policy.file=null takes it away"]
                fail(name, "stands beside a policy file, which says all rules", notes)


def _check_options(section: GroupConfig | OptimConfig) -> None:
    """Refuse options of the optimizer that the section has a key of its own for."""
    for key in fields(section):
        if key.name in section.options:
            fail("options", f"cannot hold '{key.name}'", [f"write it beside: {key.name}: ..."])


def _selector(node: Node, name: str) -> Any:
    """As it is written; an empty one, the default, selects nothing by itself."""
    if node.value is not None and node.value != {}:
        read_section(node, Where, f"'{name}'")
    return node.plain() or {}


@dataclass(frozen=True)
class GroupConfig:
    """Parameters that are optimized in a way of their own."""

    where: Annotated[Mapping[str, Any] | str, ReadAs(_selector, Where)] = field(
        default_factory=dict
    )
    """A selector as in a policy: the weights of these sites, their feedback and biases."""

    params: tuple[Literal["weights", "feedback", "norms", "biases"], ...] = ()
    """Kinds of parameters; where there is a selector too, both have to hold."""

    lr: float | None = None
    """Their learning rate."""

    weight_decay: float | None = None
    """Their weight decay."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Other options of the optimizer for them."""

    def __post_init__(self) -> None:
        _check_options(self)


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning rate."""

    name: str = "SGD"
    """A class of torch.optim."""

    lr: float = 0.1
    """The learning rate for the whole batch of a step; nothing rescales it."""

    weight_decay: float = 0.0
    """For all parameters that no group says otherwise of."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Other arguments of the class, for instance {momentum: 0.9, nesterov: true}."""

    groups: tuple[GroupConfig, ...] = ()
    """Parameters with settings of their own; the last that selects one wins."""

    constraints: tuple[Literal["batch_manhattan", "no_sign_change", "strict_norm"], ...] = ()
    """Constraints of fxbio.optim on all weights, in the order in which they are attached."""

    def __post_init__(self) -> None:
        above_zero(self, "lr")
        not_negative(self, "weight_decay")
        _check_options(self)


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate as a function of the step. Epochs may be fractions."""

    name: Literal["constant", "step", "multistep", "cosine"] = "constant"
    """constant, step (every ``every`` epochs), multistep (at ``milestones``), or cosine."""

    every: float = 30.0
    """Epochs between the drops of step."""

    milestones: tuple[float, ...] = ()
    """Epochs at which multistep drops, counted from the beginning of training."""

    gamma: float = 0.1
    """Factor of each drop."""

    final: float = 0.0
    """Factor at the end of cosine."""

    warmup_epochs: float = 0.0
    """Length of a linear warm-up; cosine begins after it."""

    warmup_steps: int = 0
    """The same in steps."""

    warmup_start: float = 0.001
    """Factor at the first step of the warm-up."""

    def __post_init__(self) -> None:
        above_zero(self, "gamma")
        not_negative(self, "warmup_steps")
        within(self, 1 / _MOST_EPOCHS, _MOST_EPOCHS, "every")
        within(self, 0, _MOST_EPOCHS, "milestones", "warmup_epochs")
        within(self, 0, 1, "gamma", "final", "warmup_start")
        if self.warmup_epochs and self.warmup_steps:
            fail("warmup_steps", "stands beside warmup_epochs: give one of the two")
        if self.name == "multistep" and not self.milestones:
            fail("milestones", "must be given for multistep, for example [30, 60]")


@dataclass(frozen=True)
class TrainConfig:
    """Length of training, and the way the steps are taken."""

    epochs: int = 90
    """Passes over the training set."""

    batch_size: int = 256
    """Samples of one optimizer step, over all processes and all accumulated parts."""

    accumulate: int = 1
    """Parts in which each process works through its share of a batch, to save memory."""

    seed: int = 0
    """Of initial weights, order and augmentation. Feedback has the seed of the policy."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA where there is any."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """bf16 and fp16 use autocast; fp16 scales the loss."""

    channels_last: bool = False
    """Keep images and weights with the channels last in memory."""

    compile: bool = False
    """Compile the model in place; the keys of its state dict stay."""

    tf32: bool | None = None
    """TensorFloat-32, faster and with a mantissa of 10 bits, on CUDA in fp32: true for matrix
    products and convolutions, false for neither; by default for convolutions, as in PyTorch."""

    deterministic: bool = False
    """Only deterministic kernels; the same numbers again on the same machine."""

    sync_bn: bool = False
    """Normalise over the batches of all processes, in a net whose batch norms are torch's own."""

    clip_norm: float | None = None
    """Largest norm of all gradients together."""

    phases: tuple[Phase, ...] = ()
    """What learns under target propagation, an epoch each and then over again: [inverse, forward]
    alternates. By default blocks and inverses learn at once."""

    inverse_epochs: int = 0
    """Epochs at the beginning in which inverses learn alone."""

    ema: float | None = None
    """Decay of a moving average of the weights, which is then what is evaluated."""

    eval_every: int = 1
    """Epochs between evaluations; the last epoch is always evaluated."""

    eval_batch_size: int | None = None
    """Samples per process and batch in evaluation; by default as in training."""

    sanity_batches: int = 2
    """Batches that are evaluated before training, so that mistakes show early."""

    overfit_batch: bool = False
    """Train on the first batch alone, to see whether the model can learn at all."""

    profile_steps: int = 0
    """Steps to profile, after a few for warming up; the trace goes to the run folder."""

    def __post_init__(self) -> None:
        above_zero(self, "epochs", "batch_size", "accumulate", "eval_every")
        above_zero(self, "clip_norm")
        within(self, 1, 2**31, "eval_batch_size")
        not_negative(self, "sanity_batches", "profile_steps", "inverse_epochs")
        if self.ema is not None and not 0 < self.ema < 1:
            fail("ema", "must lie between 0 and 1, for example 0.999")

    @property
    def takes_turns(self) -> bool:
        """True if blocks and inverses do not always learn at once."""
        return bool(self.phases or self.inverse_epochs)

    def phase(self, epoch: int) -> Phase:
        """Weights that learn in an epoch, counted from 0, under rules of target propagation."""
        if epoch < self.inverse_epochs:
            return "inverse"
        turns = self.phases or ("both",)
        return turns[(epoch - self.inverse_epochs) % len(turns)]


@dataclass(frozen=True)
class CheckpointConfig:
    """Checkpoints to keep of a run."""

    every_steps: int = 0
    """Steps between checkpoints; 0 is at the end of each epoch only."""

    every_epochs: int = 1
    """Epochs between checkpoints; the last epoch always has one."""

    keep: int = 2
    """How many of the newest to keep, besides the best one."""

    def __post_init__(self) -> None:
        not_negative(self, "every_steps")
        above_zero(self, "every_epochs", "keep")


@dataclass(frozen=True)
class LogConfig:
    """Logs to write on the way."""

    every_steps: int = 50
    """Steps between lines of metrics.jsonl."""

    tensorboard: bool = False
    """Write the metrics for TensorBoard too; needs the package tensorboard."""

    alignment_every: int = 0
    """Epochs between measurements of alignment, which go to alignment.jsonl; 0 for none. They are
    taken on the first validation batch, and before training too. Classification only."""

    def __post_init__(self) -> None:
        above_zero(self, "every_steps")
        not_negative(self, "alignment_every")
