"""Capture: run a model once, on fake tensors if that is enough, and keep what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils._pytree import tree_map

from fxbio.errors import CaptureError, FxbioError, ModelError
from fxbio.graph.check_model import check_capturable
from fxbio.graph.fake_run import run_fake
from fxbio.graph.islands import find_islands
from fxbio.graph.model_graph import ModelGraph
from fxbio.graph.site_builder import SiteBuilder
from fxbio.graph.state_guard import Snapshot, preserved
from fxbio.graph.taint import WeightTaint
from fxbio.graph.trace import Recording
from fxbio.graph.tracer import Recorder
from fxbio.models.default_inputs import default_inputs
from fxbio.models.inputs import INPUT_HELP, ExampleInputs, as_example_inputs
from fxbio.site import Unreachable
from fxbio.source_locations import origin_of_exception
from fxbio.tensors.grad_mode import learning

__all__ = ["capture", "example_inputs_for", "run_for_structure"]

R = TypeVar("R")


def capture(model: nn.Module, example_inputs: Any = None) -> ModelGraph:
    """Record one forward pass of a model in training mode.

    The pass runs on fake tensors, so it costs no arithmetic. Where the forward needs values (a
    branch on data, a detector's post-processing) it runs once more on real ones, and the modules
    that read values are listed as unreachable with file, line and reason. The same is done where
    the forward keeps a fake tensor, which is taken back. The model is left as it was, with all that
    it and its hooks hold, and so is the random state; what its code counts or keeps elsewhere, in
    globals and files, is not.

    Args:
        model: any module.
        example_inputs: a tensor, a tuple of positional arguments, a dict of keyword arguments, or
            ``ExampleInputs``. May be left out where the model's kind of input is known.

    Returns:
        The graph of the pass, its islands and its sites.

    Raises:
        ModelError: when the model cannot be captured as it is (compiled, wrapped in DDP, on the
            meta device, made in inference mode), or no example input is known.
        CaptureError: when the forward raises, or uses a fake tensor that it keeps out of reach.
    """
    check_capturable(model)
    inputs = example_inputs_for(model, example_inputs)
    recording = _recorded(model, inputs)
    sites, nodes, buffers = SiteBuilder(model, recording).build()
    graph = ModelGraph(
        name=type(model).__name__,
        sites=tuple(sites),
        unreachable=_merged(recording.opaque),
        islands=find_islands(recording),
        graph=recording.graph,
        nodes=nodes,
        constants=recording.constants,
        calls=tuple(recording.calls),
        output_type=recording.output_type,
        buffers=buffers,
        derivatives=tuple(recording.derivatives),
    )
    _check_complete(graph, recording)
    return graph


def example_inputs_for(model: nn.Module, given: Any) -> ExampleInputs:
    """The inputs as given, or those that the kind of model is known to take.

    Raises:
        ModelError: when neither is there.
    """
    if given is not None:
        return as_example_inputs(given)
    known = default_inputs(model)
    if known is None:
        raise ModelError(f"no example input is known for {type(model).__name__}", help=INPUT_HELP)
    return known


def run_for_structure(model: nn.Module, inputs: ExampleInputs, run: Callable[[Any, Any], R]) -> R:
    """Call ``run(args, kwargs)`` on fake inputs, or on real ones where fake ones do not do.

    Any exception may be the model's reaction to a tensor without values, so the real run decides
    what is a genuine error. The model is in training mode meanwhile and is left as it was.

    Args:
        model: any module.
        inputs: of its forward.
        run: calls the model. What it returns holds no tensor that it made, or it runs on real ones.

    Raises:
        CaptureError: when the real run raises.
    """
    before = Snapshot(model, (inputs.args, dict(inputs.kwargs)))
    found = run_fake(before, inputs, run)
    if found is not None:
        return found[0]
    args, kwargs = tree_map(lambda value: value, (inputs.args, dict(inputs.kwargs)))
    try:
        with preserved(before):
            return run(args, kwargs)
    except FxbioError:
        raise
    except Exception as error:
        origin = origin_of_exception(error)
        raise CaptureError(
            f"the model's forward failed: {type(error).__name__}: {error}",
            notes=[f"raised at {origin}"] if origin else [],
            help="check the example input: its number, shapes and dtypes (--input of commands)",
        ) from error


def _recorded(model: nn.Module, inputs: ExampleInputs) -> Recording:
    """Record a pass; once more where its end shows that a layer makes activations of parameters."""
    applied: frozenset[str] = frozenset()
    while True:
        recording = run_for_structure(model, inputs, partial(_record, model, applied))
        if recording.applied <= applied:
            return recording
        applied |= recording.applied


def _record(
    model: nn.Module, applied: frozenset[str], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Recording:
    taint = WeightTaint(model)
    recorder = Recorder(model, taint, applied)
    recorder.add_inputs((args, kwargs))
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    # Frozen weights may be thawed later, so the graph says where gradients could be asked for.
    with torch.enable_grad(), learning(frozen), taint, recorder.active():
        output = model(*args, **kwargs)
    return recorder.finish(output)


def _merged(parts: list[Unreachable]) -> tuple[Unreachable, ...]:
    """One part for each place and reason, with the weights of all the times it was passed."""
    merged: dict[Unreachable, set[str]] = {}
    for part in parts:
        merged.setdefault(replace(part, weights=()), set()).update(part.weights)
    return tuple(replace(part, weights=tuple(sorted(w))) for part, w in merged.items())


def _check_complete(graph: ModelGraph, recording: Recording) -> None:
    """Every weight that the dispatcher saw applied is in a site or in an unreachable part."""
    accounted = {name for site in graph.sites for name in site.sources}
    accounted |= {name for part in graph.unreachable for name in part.weights}
    missing = sorted(recording.seen - accounted)
    if missing:
        raise CaptureError(
            "capture lost sight of weights that the forward pass applies",
            notes=[f"weights: {', '.join(missing[:10])}"],
            help="please report this model; nothing was changed",
        )
