"""The witness: one forward pass of a transformed model, seen from below and from above.

From above, every call of a rule op is noted; from below, the dispatcher shows every weight that
was applied by anything else. A planned site that the first does not see, or the second does, is
a rule that silently is not there.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from fxbio.errors import VerificationError
from fxbio.graph.capture import run_for_structure
from fxbio.graph.taint import WeightTaint
from fxbio.lowering.expected_calls import ExpectedCalls
from fxbio.models.inputs import ExampleInputs
from fxbio.policy.plan import Plan
from fxbio.semantics.applied import makes_activation
from fxbio.semantics.functions import match_linear_call
from fxbio.verification.probe import OpProbe, is_rule_op
from fxbio.verification.routes import route_faults
from fxbio.verification.targets import Connection, watch_targets

__all__ = ["Witness", "check_witness", "ruled_parameters", "silent_backprop"]


class Witness:
    """Observer of the rule that each parameter was applied with, in one forward pass."""

    def __init__(self, model: nn.Module, plan: Plan) -> None:
        self.taint = WeightTaint(model)
        self._activations = _Activations(self.taint, plan.applied)
        self.probe = OpProbe(self.taint.parameters)
        self.connections: list[Connection] = []
        """Blocks that learn from targets, as the pass met them."""

    def run(self, model: nn.Module, args: Any, kwargs: Any) -> Any:
        """Run the model's forward under observation and return its outputs."""
        self.taint.mark_activation((args, kwargs))
        watching = watch_targets(model, self.connections)
        with torch.enable_grad(), self.taint, self._activations, self.probe, watching:
            return model(*args, **kwargs)

    @property
    def rules(self) -> dict[str, set[str]]:
        """Spec strings seen, by the name of a parameter that the applied weight comes from."""
        found: dict[str, set[str]] = defaultdict(set)
        for sources, rule in self.probe.seen:
            for source in sources:
                found[source].add(rule)
        return found

    @property
    def plain(self) -> set[str]:
        """Parameters that were applied by operations without a rule."""
        return set().union(*(use.sources for use in self.taint.uses))


class _Activations(TorchFunctionMode):
    """Declares the outputs of layers to be activations, whatever the layers are applied to."""

    def __init__(self, taint: WeightTaint, applied: frozenset[str]) -> None:
        super().__init__()
        self._taint = taint
        self._applied = applied

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if is_rule_op(func) or self._applies(func, args, kwargs):
            self._taint.mark_activation(out)
        return out

    def _applies(self, func: Any, args: Any, kwargs: Any) -> bool:
        call = match_linear_call(func, args, kwargs, self._taint.is_weight)
        if call is None:
            return False
        applied = self._taint.parameters(call.weight) <= self._applied
        return makes_activation(call, self._taint.is_data, applied)


def check_witness(
    model: nn.Module, plan: Plan, inputs: ExampleInputs, expected: ExpectedCalls
) -> int:
    """Check that the planned rules run, and return how many weights were seen to run theirs.

    Args:
        model: a transformed model.
        plan: what it was transformed by.
        inputs: those that it was captured with, so that it takes the same branches.
        expected: what the lowered graph says that this pass meets.

    Raises:
        VerificationError: naming the sites that run backprop instead, did not run, or run what
            the lowered graph does not say.
    """

    def run(args: Any, kwargs: Any) -> tuple[list[str], set[str]]:
        witness = Witness(model, plan)
        witness.run(model, args, kwargs)
        faults, weights = find_faults(plan, witness)
        faults += route_faults(model, plan, witness.probe.deliveries)
        return faults or differences(expected, witness), weights

    faults, weights = run_for_structure(model, inputs, run)
    weights |= {a.site.weight for a in plan.rewritten("broadcast", "local")}
    if faults:
        raise VerificationError(
            f"{len(faults)} sites do not run their rule",
            notes=faults[:10],
            help="give them rule: bp, or on_unsupported: bp in the entry that selects them",
        )
    return len(weights)


def differences(expected: ExpectedCalls, witness: Witness) -> list[str]:
    """Differences between the lowered graph and the pass of the model, both ways."""
    ran = {(parameter, rule) for parameter, rules in witness.rules.items() for rule in rules}
    sent = {arrival.name for call in witness.probe.deliveries for arrival in call.arrivals}
    connected = {found.target.name for found in witness.connections}
    return [
        *(f"{p}: '{rule}' is in the graph and was not run" for p, rule in expected.rules - ran),
        *(f"{p}: '{rule}' was run and is not in the graph" for p, rule in ran - expected.rules),
        *_unequal("an error enters", expected.ports, sent),
        *_unequal("a target is sent", expected.blocks, connected),
    ]


def _unequal(what: str, expected: frozenset[str], met: set[str]) -> list[str]:
    return [
        *(f"{name}: {what} in the graph, but not as the model ran" for name in expected - met),
        *(f"{name}: {what} as the model ran, but not in the graph" for name in met - expected),
    ]


def find_faults(plan: Plan, witness: Witness) -> tuple[list[str], set[str]]:
    """Faults of the plan that the witness did not see, and the weights that were seen."""
    faults: list[str] = []
    weights: set[str] = set()
    rules, silent = witness.rules, silent_backprop(plan, witness)
    for assignment in plan.rewritten("asymmetric"):
        site, spec = assignment.site, assignment.make_rule().spec()
        if site.calls == 0:
            continue
        if not any(spec in rules.get(source, ()) for source in site.sources):
            faults.append(f"{site.name}: rule '{assignment.rule}' was never run")
        elif silent & set(site.sources):
            faults.append(f"{site.name}: the weight is also applied without a rule")
        else:
            weights.add(site.weight)
    connected = {site for found in witness.connections for site in found.target.sites}
    for assignment in plan.rewritten("target"):
        site = assignment.site
        if site.calls and site.name not in connected:
            faults.append(f"{site.name}: no target reaches its block")
        else:
            weights.add(site.weight)
    return faults, weights


def silent_backprop(plan: Plan, witness: Witness) -> set[str]:
    """Parameters that were applied without a rule although every site of theirs has one."""
    return witness.plain & ruled_parameters(plan)


def ruled_parameters(plan: Plan) -> set[str]:
    """Parameters of rewritten sites that no other site applies under backprop."""
    rewritten = {source for a in plan.rewritten("asymmetric") for source in a.site.sources}
    kept = [a for a in plan.assignments if not a.make_rule().rewrites and a.site.multiplies]
    return rewritten - {source for a in kept for source in a.site.sources}
