"""The programmatic interface: plan, transform, revert."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from fxbio._version import __version__
from fxbio.errors import ModelError, PassError, PolicyError
from fxbio.graph.capture import capture, example_inputs_for
from fxbio.graph.check_model import check_capturable
from fxbio.graph.model_copy import copy_model
from fxbio.graph.state_guard import outside_inference_mode
from fxbio.passes import DEFAULT_PIPELINE, Pipeline, Program
from fxbio.passes.pipeline import Observer
from fxbio.policy import Plan, Policy, resolve
from fxbio.runtime.install import bound_modules, uninstall
from fxbio.serialization.code import readable_code
from fxbio.serialization.record import RECORD, Record
from fxbio.wrappers import unwrapped

__all__ = ["plan", "revert", "transform"]


def plan(model: nn.Module, policy: Policy, example_inputs: Any = None) -> Plan:
    """Resolve a policy against a model. Nothing is changed.

    Args:
        model: any module that is not transformed yet.
        policy: what each site is to get.
        example_inputs: as for ``capture``.

    Raises:
        ModelError: when the model cannot be captured as it is.
        CaptureError: when its forward fails.
        PolicyError: when the policy does not fit the model.
        UnreachableWeightError: when the policy asks for a site that no rule can reach.
    """
    _check_policy(policy, Policy)
    _check_stock(model)
    return resolve(policy, capture(model, example_inputs))


@outside_inference_mode()
def transform(
    model: nn.Module,
    policy: Policy | Plan,
    example_inputs: Any = None,
    *,
    inplace: bool = False,
    pipeline: Pipeline | str = DEFAULT_PIPELINE,
    observers: Iterable[Observer] = (),
) -> nn.Module:
    """Give every weight of a model the learning rule that a policy or a plan says.

    The result is the same kind of object with the same parameters: any training loop trains it,
    and stock checkpoints load into it. Either everything is done or nothing. The forward and the
    hooks of the model run several times meanwhile, on fake tensors where that is possible; what
    they count or write outside of the model stays counted and written.

    Args:
        model: any module that is not transformed yet.
        policy: a policy, or a plan made from one for the same model.
        example_inputs: as for ``capture``.
        inplace: change ``model`` itself instead of a deep copy.
        pipeline: the passes to run.
        observers: called after each pass.

    Returns:
        The transformed model.

    Raises:
        ModelError, CaptureError, PolicyError, UnreachableWeightError: as for ``plan``.
        PassError: when a pass fails.
        VerificationError: when a planned site does not run its rule.
    """
    _check_policy(policy, Policy, Plan)
    _check_stock(model)
    steps = Pipeline.parse(pipeline) if isinstance(pipeline, str) else pipeline
    inputs = example_inputs_for(model, example_inputs)
    graph = capture(model, inputs)
    target = model if inplace else _copied(model)
    program = Program(target, graph, inputs)
    if isinstance(policy, Plan):
        program.plan = policy
    else:
        program.policy = policy
    try:
        steps.run(program, observers)
        vars(target)[RECORD] = _record(program, steps)
    except BaseException:
        uninstall(target)
        raise
    return target


def _record(program: Program, steps: Pipeline) -> Record:
    plan = program.planned()
    if plan.rewritten() and not program.bound:
        raise PassError(
            "the pipeline left the model as it was, so none of its rules would run",
            notes=[f"it ran: {steps}"],
            help=f"end it as the usual one: {DEFAULT_PIPELINE}",
        )
    return Record(
        plan=plan,
        pipeline=str(steps),
        versions=_versions(),
        code=readable_code(program.lowered),
        inputs=program.inputs,
        graph=program.graph,
    )


def revert(model: nn.Module) -> nn.Module:
    """Undo ``transform`` in place: the stock model with its trained weights.

    Args:
        model: a transformed model.

    Returns:
        The same object.

    Raises:
        ModelError: when the model was not transformed.
    """
    if RECORD not in vars(model):
        wrapped = unwrapped(model) is not model
        raise ModelError(
            f"{type(model).__name__} is not a transformed model, nothing to revert",
            help="revert the model that it wraps, and wrap that again" if wrapped else None,
        )
    uninstall(model)
    del vars(model)[RECORD]
    return model


def _check_policy(given: object, *kinds: type) -> None:
    if not isinstance(given, kinds):
        raise PolicyError(
            f"a policy must be a fxbio.Policy, not {type(given).__name__}",
            help='read a file or a text with fxbio.Policy.from_yaml("policy.yaml")',
        )


def _check_stock(model: nn.Module) -> None:
    check_capturable(model)
    bound = bound_modules(model)
    if RECORD in vars(model) or bound:
        inside = f", {len(bound)} modules of it are rewritten" if bound else ""
        raise ModelError(
            f"{type(model).__name__} is transformed already{inside}",
            help="undo it first: fxbio.revert(model)",
        )


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy_model(model)
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} cannot be copied: {error}",
            help="transform the model itself: transform(model, policy, inplace=True)",
        ) from error


def _versions() -> dict[str, str]:
    return {
        "fxbio": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
