"""The folder of a transformed model: its files, their formats, and their digests."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fxbio.errors import RecordError
from fxbio.files.reading import read_json, read_text, require_regular_file
from fxbio.files.trust import sign
from fxbio.files.typed_json import from_json
from fxbio.models.plain_load import load_plain
from fxbio.policy import Plan, plan_markdown
from fxbio.runtime.updates import redraw_counts
from fxbio.serialization.feedback_state import digests, irreproducible, scales
from fxbio.serialization.record import ModelSource, record_of

__all__ = ["read_feedback", "read_folder", "write_folder"]

_SCHEMA = 1
_FILES = ("plan.json", "record.json", "weights.pt")
_KEYS = ("versions", "pipeline", "source", "plan", "files", "scales", "feedback", "updates")
_EARLIER_PASSES = "lower-sites,bind-modules,route-errors,place-targets"
_PASSES = "lower-feedback,route-errors,lower-broadcast,lower-local,lower-targets,bind-modules"
"""What the first folders call the passes that write the way back, and what does so now."""

_CHECKED = ("plan.json", "weights.pt", "feedback.pt")
"""Files whose digests are in the record; the last is there only where rules read weights."""


@dataclass(frozen=True)
class _Content:
    """Contents of ``record.json`` and their types."""

    versions: Mapping[str, str]
    pipeline: str
    source: ModelSource | None
    plan: str
    files: Mapping[str, str]
    scales: Mapping[str, float]
    feedback: Mapping[str, str]
    updates: Mapping[str, int]


def write_folder(model: nn.Module, folder: Path, source: ModelSource | None) -> None:
    """Write all that ``load`` needs, and what people want to read, into an empty folder."""
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


def read_folder(folder: Path) -> tuple[dict[str, Any], Plan]:
    """The checked content of ``record.json``, and the plan.

    Raises:
        RecordError: when a file is missing, damaged, or was edited.
    """
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
    return {**content, "pipeline": content["pipeline"].replace(_EARLIER_PASSES, _PASSES)}


def read_feedback(folder: Path) -> dict[str, Tensor]:
    """The feedback that depends on weights of the past; empty where there is none.

    Raises:
        RecordError: for a file that holds anything else.
    """
    path = folder / "feedback.pt"
    if not path.exists():
        return {}
    try:
        saved = load_plain(path)
    except (OSError, ValueError, pickle.UnpicklingError) as error:
        raise RecordError(f"'{path}' cannot be read as feedback: {error}") from error
    if not isinstance(saved, dict) or not all(isinstance(t, Tensor) for t in saved.values()):
        raise RecordError(f"'{path}' is no dict of tensors")
    return saved


def _file_digest(path: Path) -> str:
    try:
        with require_regular_file(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RecordError(f"'{path}' cannot be read: {error}") from error
