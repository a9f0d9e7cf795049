"""Saving and loading transformed models: a folder that is written whole or not at all."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fxbio._version import __version__
from fxbio.api import revert, transform
from fxbio.errors import FxbioError, ModelError, RecordError
from fxbio.files.atomic_folder import atomic_folder
from fxbio.files.trust import check_trust
from fxbio.files.typed_json import from_json
from fxbio.models.weights import load_weights
from fxbio.policy import Plan
from fxbio.runtime.updates import redraw_counts, set_redraw_counts
from fxbio.serialization.feedback_state import digests, restore
from fxbio.serialization.folder import read_feedback, read_folder, write_folder
from fxbio.serialization.record import ModelSource, record_of
from fxbio.wrappers import unwrapped

__all__ = ["check_replaceable", "load", "save"]


def save(
    model: nn.Module,
    folder: str | Path,
    *,
    overwrite: bool = False,
    source: ModelSource | None = None,
) -> None:
    """Write a transformed model to a folder.

    The folder holds ``plan.md`` and ``plan.json``, ``policy.yaml`` as given, ``record.json``,
    ``weights.pt`` (the stock ``state_dict``), ``rewritten/*.py``, ``feedback.pt`` where feedback
    depends on weights of the past, and a ``signature`` by which ``load`` knows it for this user's.

    Args:
        model: a transformed model.
        folder: must not exist, or be replaced.
        overwrite: replace an existing folder.
        source: how ``load`` can build the stock model by itself.

    Raises:
        ModelError: when the model was not transformed.
        RecordError: when the folder exists, or cannot be made.
    """
    model = unwrapped(model)
    record_of(model)  # before anything is written
    target = Path(os.path.realpath(folder))  # Path.resolve() raises in a loop of links
    check_replaceable(target, overwrite)
    with ExitStack() as stack:
        try:
            scratch = stack.enter_context(atomic_folder(target, overwrite=overwrite))
        except OSError as error:
            raise RecordError(
                f"the model cannot be saved to '{target}': {error.strerror}",
                help="choose another folder (--out)",
            ) from error
        write_folder(model, scratch, source)


def check_replaceable(target: Path, overwrite: bool) -> None:
    """Refuse to replace anything but what ``save`` wrote: a wrong path must not cost a folder.

    Raises:
        RecordError: when the folder must stay as it is.
    """
    if not target.exists():
        return
    if not overwrite:
        raise RecordError(
            f"'{target}' exists already", help="choose another (--out), or add --overwrite"
        )
    if not target.is_dir() or (any(target.iterdir()) and not (target / "record.json").exists()):
        raise RecordError(
            f"'{target}' is not a transformed model, so it is not overwritten",
            help="choose another folder, or remove it yourself",
        )


def load(
    folder: str | Path,
    model: nn.Module | None = None,
    example_inputs: Any = None,
    *,
    trust: bool = False,
) -> nn.Module:
    """Rebuild the transformed model of a folder.

    A model, plug-ins and inverses that the folder names are imported, which runs their code: only
    from a folder that this user has written on this machine, or with ``trust``. With a ``model``
    the folder's model and plug-ins are left alone; plug-ins are the caller's to load.

    Args:
        folder: as ``save`` wrote it.
        model: a stock model of the same architecture, changed in place; it may be left out where
            the folder says how to build one.
        example_inputs: as for ``capture``; by default as the folder says.
        trust: run what a folder names that somebody else has made.

    Raises:
        RecordError: when the folder is incomplete or damaged, belongs to another model, what
            is rebuilt differs from what was saved, or it names code of somebody else.
        ModelError: when the stock model cannot be built.
    """
    folder = Path(folder)
    content, plan = read_folder(folder)
    source = None if model is not None else _source(content, folder)
    check_trust(
        folder / "record.json",
        _named_code(source, plan),
        trust,
        error=RecordError,
        otherwise="or pass a stock model of your own: fxbio.load(folder, model)",
    )
    if source is not None:
        model, inputs = _build(source)
        example_inputs = inputs if example_inputs is None else example_inputs
    assert model is not None
    try:
        model = transform(model, plan, example_inputs, inplace=True, pipeline=content["pipeline"])
    except FxbioError as error:
        raise RecordError(
            f"'{folder}' does not fit this {type(model).__name__}",
            notes=[error.headline, *error.notes],
            help=error.help,
        ) from error
    try:
        _restore_feedback(model, content, folder)
        _load_weights(model, folder)
    except BaseException:
        revert(model)
        raise
    return model


def _restore_feedback(model: nn.Module, content: dict[str, Any], folder: Path) -> None:
    saved = read_feedback(folder)
    counted = redraw_counts(model)
    odd = [path for path in content["updates"] if path not in counted]
    if odd:
        raise RecordError("the record is of another model", notes=[f"no updates at: {odd[0]}"])
    set_redraw_counts(model, content["updates"])
    restore(model, content["scales"], saved)
    _check_feedback(model, content)


def _source(content: dict[str, Any], folder: Path) -> ModelSource:
    if content["source"] is None:
        raise RecordError(
            f"'{folder}' does not say how to build {content['model']}",
            help="pass a stock model: fxbio.load(folder, model)",
        )
    return from_json(content["source"], ModelSource)


def _named_code(source: ModelSource | None, plan: Plan) -> list[str]:
    """Names of code that building the folder imports and calls."""
    inverses = {str(a.options["inverse"]) for a in plan.assignments if a.options.get("inverse")}
    named = [f"inverse: {inverse}" for inverse in sorted(inverses)]
    if source is None:
        return named
    arguments = "".join(f", {key}={value!r}" for key, value in source.model_args.items())
    plugins = [f"plug-in: {plugin}" for plugin in source.plugins]
    return [f"model: {source.reference}{arguments}", *plugins, *named]


def _build(source: ModelSource) -> tuple[nn.Module, Any]:
    from fxbio.models import load_reference
    from fxbio.models.input_spec import parse_inputs
    from fxbio.plugins import load_plugin

    for plugin in source.plugins:
        load_plugin(plugin)
    loaded = load_reference(source.reference, source.model_args, seed=0)  # weights come later
    inputs = parse_inputs(source.inputs) if source.inputs else loaded.default_inputs
    return loaded.model, inputs


def _load_weights(model: nn.Module, folder: Path) -> None:
    try:
        load_weights(model, folder / "weights.pt")
    except ModelError as error:
        raise RecordError(error.headline, notes=error.notes) from error


def _check_feedback(model: nn.Module, content: dict[str, Any]) -> None:
    found = digests(model)
    wrong = [key for key, digest in content["feedback"].items() if found.get(key) != digest]
    if not wrong:
        return
    torch_then = content["versions"].get("torch", "unknown")
    raise RecordError(
        "the feedback that was drawn now is not the feedback that was saved",
        notes=[
            f"{len(wrong)} of {len(found)} differ, for instance {wrong[0]}",
            f"saved with torch {torch_then}, this is torch {torch.__version__}",
        ],
        help=f"use the versions of the record, or transform anew with fxbio {__version__}",
    )
