"""Optimizer groups chosen by the selectors of a policy."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from fxbio.errors import PolicyError, did_you_mean
from fxbio.files.located_yaml import from_plain
from fxbio.files.typed_yaml import read_section
from fxbio.globs import suggest_paths
from fxbio.policy.entries import Where
from fxbio.policy.plan import Plan
from fxbio.policy.selector import patterns_of, select
from fxbio.runtime.install import bound_modules
from fxbio.runtime.module_state import binding_of
from fxbio.serialization.record import record_of
from fxbio.site import Site, Unreachable
from fxbio.wrappers import unwrapped

__all__ = ["param_groups"]

_KINDS = ("weights", "feedback", "norms", "biases")
_OWN_KEYS = ("where", "params")
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def param_groups(
    model: nn.Module, groups: Iterable[Mapping[str, Any]] = (), **defaults: Any
) -> list[dict[str, Any]]:
    """The parameters of a transformed model in groups, as ``torch.optim`` takes them.

    Every parameter that learns is in exactly one group: the last that selects it, or else the
    first of the result, which has the defaults alone::

        groups = [
            {"params": ["norms", "biases"], "weight_decay": 0.0},
            {"where": {"last": True}, "lr": 0.01},
        ]
        torch.optim.SGD(fxbio.param_groups(model, groups, lr=0.1, weight_decay=1e-4))

    A group selects by ``where``, in the syntax of policies: the weights of those sites, their
    feedback, and the biases beside them. It selects by ``params``: ``weights``, ``feedback``,
    ``norms`` (scales and biases of normalisation layers), ``biases``, or a list of these. With both
    it selects what both do. All its other keys are options of the optimizer. Rules that are tied,
    such as ``kp``, want weight and feedback in groups with the same options.

    Args:
        model: a transformed model, or one wrapped in DDP.
        groups: later ones win.
        **defaults: options of the optimizer for all groups that do not say otherwise.

    Raises:
        ModelError: when the model was not transformed.
        PolicyError: for an unknown key or word, and for a group that selects nothing.
    """
    model = unwrapped(model)
    subject = _Subject(model, record_of(model).plan)
    made: list[dict[str, Any]] = [{"params": [], **defaults}]
    place = dict.fromkeys(subject.kinds, 0)
    for number, group in enumerate(groups, start=1):
        _check_keys(number, group, defaults)
        for name in subject.selected(number, group):
            place[name] = number
        options = {key: value for key, value in group.items() if key not in _OWN_KEYS}
        made.append({"params": [], **defaults, **options})
    parameters = dict(model.named_parameters())
    for name, number in place.items():
        made[number]["params"].append(parameters[name])
    return [group for group in made if group["params"]]


@dataclass(frozen=True)
class _Sites:
    """Sites of a plan, as selectors need them."""

    name: str
    digest: str
    sites: tuple[Site, ...]
    unreachable: tuple[Unreachable, ...]

    def between(self, sources: set[str], targets: set[str]) -> set[str]:
        raise PolicyError(
            "'between' needs the dataflow of the model, which its plan does not have",
            help="select the sites by module, index or depth",
        )


class _Subject:
    """A transformed model and what its parameters are."""

    def __init__(self, model: nn.Module, plan: Plan) -> None:
        self._model = model
        sites = tuple(assignment.site for assignment in plan.assignments)
        self._graph = _Sites(plan.model, plan.model_digest, sites, plan.unreachable)
        self._feedback: dict[str, set[str]] = {}
        """Names of learned feedback by the name of the weight."""
        for path, module in bound_modules(model):
            for bound in binding_of(module).weights:
                if bound.learned is not None:
                    name = f"{path}.{bound.learned}" if path else bound.learned
                    self._feedback.setdefault(bound.weight, set()).add(name)
        norms = {site.path for site in sites if site.op == "norm"}
        self.kinds = {
            name: self._kind(name, norms) for name, p in model.named_parameters() if p.requires_grad
        }

    def _kind(self, name: str, norms: set[str]) -> str:
        path, _, last = name.rpartition(".")
        if any(part.startswith("fxbio_") for part in name.split(".")):
            return "feedback"
        if path in norms or isinstance(self._model.get_submodule(path), _NORMS):
            return "norms"
        return "biases" if last.endswith("bias") else "weights"

    def selected(self, number: int, group: Mapping[str, Any]) -> set[str]:
        """Names of the parameters that a group selects."""
        names = set(self.kinds)
        if "where" in group:
            names &= set(self._at_sites(number, group["where"]))
        if "params" in group:
            wanted = _wanted_kinds(number, group["params"])
            names = {name for name in names if self.kinds[name] in wanted}
        if not names:
            raise PolicyError(
                f"group {number} selects no parameter of {self._graph.name}",
                notes=self._hints(group),
                help="list the sites with: fxbio inspect MODEL" if "where" in group else None,
            )
        return names

    def _hints(self, group: Mapping[str, Any]) -> list[str]:
        if "where" in group and "norms" in group.get("params", ()):
            return [
                "'where' means normalisation layers only where it says op: norm, as in policies"
            ]
        if "feedback" in group.get("params", ()) and "feedback" not in self.kinds.values():
            return ["none of its rules learns a feedback; fixed feedback is no parameter"]
        return []

    def _at_sites(self, number: int, selector: Any) -> Iterator[str]:
        where = read_section(from_plain(selector), Where, "'where'")
        paths = list(dict.fromkeys(site.path for site in self._graph.sites))
        for pattern in patterns_of(where):
            if not any(pattern.matches(path) for path in paths):
                raise PolicyError(
                    f"'{pattern}' of group {number} matches no site of {self._graph.name}",
                    notes=suggest_paths(pattern.text, paths) if pattern.kind == "glob" else [],
                    help="list the sites with: fxbio inspect MODEL",
                )
        for site in select(where, self._graph):
            yield from site.sources
            yield from self._feedback.get(site.weight, ())
            beside = self._model.get_submodule(site.path)._parameters
            yield from (f"{site.path}.{n}".lstrip(".") for n in beside if n.endswith("bias"))


def _check_keys(number: int, group: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    allowed = {*_OWN_KEYS, *_optimizer_options(), *defaults}
    for key in group:
        if key not in allowed:
            guess = did_you_mean(key, allowed)
            raise PolicyError(
                f"unknown key '{key}' in group {number}",
                notes=[
                    *([guess] if guess else []),
                    "allowed: where, params, and options of optimizers in torch.optim",
                ],
                help="an option of another optimizer must have a default, too",
            )
    if not any(key in group for key in _OWN_KEYS):
        raise PolicyError(
            f"group {number} says not what it selects",
            help="add where: or params:, or make its options defaults",
        )


def _optimizer_options() -> set[str]:
    classes = (c for c in vars(torch.optim).values() if isinstance(c, type))
    found = (
        inspect.signature(c).parameters for c in classes if issubclass(c, torch.optim.Optimizer)
    )
    return {name for names in found for name in names} - {"params"}


def _wanted_kinds(number: int, value: Any) -> list[str]:
    words = [value] if isinstance(value, str) else list(value)
    for word in words:
        if word not in _KINDS:
            guess = did_you_mean(str(word), _KINDS)
            raise PolicyError(
                f"unknown params '{word}' in group {number}",
                notes=[*([guess] if guess else []), f"allowed: {', '.join(_KINDS)}"],
            )
    return words
