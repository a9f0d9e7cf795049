"""A transformed model as a folder: written whole or not at all, and read back with its digests."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fxbio import __version__
from fxbio.api import revert, transform
from fxbio.bind.updates import redraw_counts, set_redraw_counts
from fxbio.errors import FxbioError, ModelError, RecordError
from fxbio.policy import Plan, plan_markdown
from fxbio.reading import read_json, read_text, require_regular_file
from fxbio.record.feedback_state import digests, irreproducible, restore, scales
from fxbio.record.record import ModelSource, record_of
from fxbio.reference.plain_load import load_plain
from fxbio.reference.weights import load_weights
from fxbio.trust import check_trust, sign
from fxbio.typed_json import from_json

__all__ = ["check_replaceable", "load", "save"]

_SCHEMA = 1
_FILES = ("plan.json", "record.json", "weights.pt")
_KEYS = ("versions", "pipeline", "source", "plan", "files", "scales", "feedback", "updates")
_CHECKED = ("plan.json", "weights.pt", "feedback.pt")
"""Files whose digests are in the record; the last is there only where rules read weights."""


@dataclass(frozen=True)
class _Content:
    """What must be in ``record.json``, and of which types."""

    versions: Mapping[str, str]
    pipeline: str
    source: ModelSource | None
    plan: str
    files: Mapping[str, str]
    scales: Mapping[str, float]
    feedback: Mapping[str, str]
    updates: Mapping[str, int]


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
    record_of(model)  # before anything is written
    target = Path(os.path.realpath(folder))  # Path.resolve() raises in a loop of links
    check_replaceable(target, overwrite)
    scratch = _scratch_for(target)
    try:
        _write(model, scratch, source)
        _put_in_place(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _scratch_for(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise RecordError(
            f"the model cannot be saved to '{target}': {error.strerror}",
            help="choose another folder (--out)",
        ) from error


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


def _put_in_place(scratch: Path, target: Path) -> None:
    """Exchange folders so that one of the two is there at any moment."""
    scratch.chmod(0o755)
    if not target.exists():
        scratch.rename(target)
        return
    old = target.with_name(f".{target.name}-old-{os.getpid()}")
    target.rename(old)
    try:
        scratch.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old)


def _write(model: nn.Module, folder: Path, source: ModelSource | None) -> None:
    record = record_of(model)
    plan = record.plan
    (folder / "plan.md").write_text(plan_markdown(plan))
    (folder / "plan.json").write_text(plan.to_json())
    (folder / "policy.yaml").write_text(plan.policy_text)
    state = {key: _on_cpu(value) for key, value in model.state_dict().items()}
    torch.save(state, folder / "weights.pt")
    past = irreproducible(model)
    if past:
        torch.save(past, folder / "feedback.pt")
    (folder / "rewritten").mkdir()
    for path, code in record.code.items():
        (folder / "rewritten" / f"{path or plan.model}.py").write_text(code)
    content = {
        "schema": _SCHEMA,
        "model": plan.model,
        "versions": dict(record.versions),
        "pipeline": record.pipeline,
        "source": None if source is None else asdict(source),
        "plan": plan.digest,
        "files": {n: _file_digest(folder / n) for n in _CHECKED if (folder / n).exists()},
        "scales": scales(model),
        "feedback": digests(model),
        "updates": redraw_counts(model),
    }
    (folder / "record.json").write_text(json.dumps(content, indent=2) + "\n")
    sign(folder / "record.json")  # with the digests in it, all that load reads


def _on_cpu(value: Any) -> Any:
    """An entry of a state dict; the extra state of a module may be any plain data."""
    return value.detach().cpu() if isinstance(value, Tensor) else value


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
    content, plan = _read(folder)
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


def _read(folder: Path) -> tuple[dict[str, Any], Plan]:
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise RecordError(
            f"'{folder}' is not a transformed model", notes=[f"missing: {', '.join(missing)}"]
        )
    content = _read_record(folder)
    unknown = [name for name in _FILES if name in _CHECKED and name not in content["files"]]
    if unknown:
        raise RecordError(f"'{folder}/record.json' is damaged: it has no digest of {unknown[0]}")
    for name, digest in content["files"].items():
        if not (folder / name).is_file():
            raise RecordError(f"'{folder}' is incomplete: '{name}' is missing")
        if _file_digest(folder / name) != digest:
            raise RecordError(
                f"'{folder}/{name}' is damaged or was edited: its digest differs from the record"
            )
    plan = Plan.from_json(_plan_text(folder))
    if plan.digest != content["plan"]:
        raise RecordError(f"'{folder}/plan.json' is not the plan of its record.json")
    return content, plan


def _plan_text(folder: Path) -> str:
    try:
        return read_text(folder / "plan.json")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"'{folder}/plan.json' is damaged: {error}") from error


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        content = read_json(folder / "record.json")
    except (OSError, ValueError) as error:
        raise RecordError(f"'{folder}/record.json' is damaged: {error}") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != _SCHEMA:
        raise RecordError(
            f"'{folder}' was written in format {schema}, this is format {_SCHEMA}",
            help="load it with the version of fxbio that wrote it",
        )
    missing = [key for key in _KEYS if key not in content]
    if missing:
        raise RecordError(f"'{folder}/record.json' is damaged: it has no {', '.join(missing)}")
    try:
        from_json({key: content[key] for key in _KEYS}, _Content)
    except ValueError as error:
        raise RecordError(f"'{folder}/record.json' is damaged: {error}") from error
    return dict(content)


def _restore_feedback(model: nn.Module, content: dict[str, Any], folder: Path) -> None:
    past = folder / "feedback.pt"
    saved = _saved_feedback(past) if past.exists() else {}
    counted = redraw_counts(model)
    odd = [path for path in content["updates"] if path not in counted]
    if odd:
        raise RecordError("the record is of another model", notes=[f"no updates at: {odd[0]}"])
    set_redraw_counts(model, content["updates"])
    restore(model, content["scales"], saved)
    _check_feedback(model, content)


def _saved_feedback(path: Path) -> dict[str, Tensor]:
    try:
        saved = load_plain(path)
    except (OSError, ValueError, pickle.UnpicklingError) as error:
        raise RecordError(f"'{path}' cannot be read as feedback: {error}") from error
    if not isinstance(saved, dict) or not all(isinstance(t, Tensor) for t in saved.values()):
        raise RecordError(f"'{path}' is no dict of tensors")
    return saved


def _source(content: dict[str, Any], folder: Path) -> ModelSource:
    if content["source"] is None:
        raise RecordError(
            f"'{folder}' does not say how to build {content['model']}",
            help="pass a stock model: fxbio.load(folder, model)",
        )
    return from_json(content["source"], ModelSource)


def _named_code(source: ModelSource | None, plan: Plan) -> list[str]:
    """What building the folder imports and calls."""
    inverses = {str(a.options["inverse"]) for a in plan.assignments if a.options.get("inverse")}
    named = [f"inverse: {inverse}" for inverse in sorted(inverses)]
    if source is None:
        return named
    arguments = "".join(f", {key}={value!r}" for key, value in source.model_args.items())
    plugins = [f"plug-in: {plugin}" for plugin in source.plugins]
    return [f"model: {source.reference}{arguments}", *plugins, *named]


def _build(source: ModelSource) -> tuple[nn.Module, Any]:
    from fxbio.graph.input_spec import parse_inputs
    from fxbio.plugins import load_plugin
    from fxbio.reference import load_reference

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


def _file_digest(path: Path) -> str:
    try:
        with require_regular_file(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RecordError(f"'{path}' cannot be read: {error}") from error
