"""fxbio, a compiler for credit assignment.

It takes any PyTorch model, captures it with ``torch.fx``, lets a policy give each weight its own
learning rule, rewrites the backward path, and checks what it did::

    policy = fxbio.Policy.from_yaml("ss.yaml")
    model = fxbio.transform(torchvision.models.resnet18(), policy)
    print(fxbio.verify(model))

Names are loaded when they are first used, so importing fxbio is cheap.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from fxbio._version import __version__

if TYPE_CHECKING:
    from fxbio import analysis, errors, nn, optim, passes, rules, study, train, viz
    from fxbio.analysis import (
        Alignment,
        Audit,
        alignment,
        audit,
        log_alignment,
    )
    from fxbio.api import plan, revert, transform
    from fxbio.errors import FxbioError, FxbioWarning
    from fxbio.graph.capture import capture
    from fxbio.graph.model_graph import ModelGraph
    from fxbio.models.inputs import ExampleInputs
    from fxbio.parameter_groups import param_groups
    from fxbio.policy import Plan, Policy
    from fxbio.rules import FeedbackRule, Rule, WeightInfo, rule
    from fxbio.runtime.feedback_training import set_phase, train_feedback
    from fxbio.runtime.feedback_weights import (
        broadcast_weights,
        feedback_weights,
        set_feedback_weights,
    )
    from fxbio.runtime.install import backprop
    from fxbio.runtime.mirror_phase import mirror
    from fxbio.runtime.updates import count_update, redraw_counts, set_redraw_counts
    from fxbio.saving import load, save
    from fxbio.serialization.record import plan_of
    from fxbio.transforms import ErrorTransform, error_transform
    from fxbio.verification import Verification, verify

_HOMES = {
    "Alignment": "fxbio.analysis",
    "Audit": "fxbio.analysis",
    "ErrorTransform": "fxbio.transforms",
    "ExampleInputs": "fxbio.models.inputs",
    "FeedbackRule": "fxbio.rules",
    "FxbioError": "fxbio.errors",
    "FxbioWarning": "fxbio.errors",
    "ModelGraph": "fxbio.graph.model_graph",
    "Plan": "fxbio.policy",
    "Policy": "fxbio.policy",
    "Rule": "fxbio.rules",
    "Verification": "fxbio.verification",
    "WeightInfo": "fxbio.rules",
    "alignment": "fxbio.analysis",
    "log_alignment": "fxbio.analysis",
    "audit": "fxbio.analysis",
    "backprop": "fxbio.runtime.install",
    "broadcast_weights": "fxbio.runtime.feedback_weights",
    "capture": "fxbio.graph.capture",
    "error_transform": "fxbio.transforms",
    "feedback_weights": "fxbio.runtime.feedback_weights",
    "load": "fxbio.saving",
    "mirror": "fxbio.runtime.mirror_phase",
    "param_groups": "fxbio.parameter_groups",
    "plan": "fxbio.api",
    "plan_of": "fxbio.serialization.record",
    "count_update": "fxbio.runtime.updates",
    "redraw_counts": "fxbio.runtime.updates",
    "revert": "fxbio.api",
    "rule": "fxbio.rules",
    "save": "fxbio.saving",
    "set_feedback_weights": "fxbio.runtime.feedback_weights",
    "set_phase": "fxbio.runtime.feedback_training",
    "set_redraw_counts": "fxbio.runtime.updates",
    "train_feedback": "fxbio.runtime.feedback_training",
    "transform": "fxbio.api",
    "verify": "fxbio.verification",
}

_MODULES = ("analysis", "errors", "nn", "optim", "passes", "rules", "study", "train", "viz")
"""What people use by its own name, as in ``fxbio.optim.strict_norm``."""

__all__ = [
    "Alignment",
    "Audit",
    "ErrorTransform",
    "ExampleInputs",
    "FeedbackRule",
    "FxbioError",
    "FxbioWarning",
    "ModelGraph",
    "Plan",
    "Policy",
    "Rule",
    "Verification",
    "WeightInfo",
    "__version__",
    "alignment",
    "analysis",
    "audit",
    "backprop",
    "broadcast_weights",
    "capture",
    "count_update",
    "error_transform",
    "errors",
    "feedback_weights",
    "load",
    "log_alignment",
    "mirror",
    "nn",
    "optim",
    "param_groups",
    "passes",
    "plan",
    "plan_of",
    "redraw_counts",
    "revert",
    "rule",
    "rules",
    "save",
    "set_feedback_weights",
    "set_phase",
    "set_redraw_counts",
    "study",
    "train",
    "train_feedback",
    "transform",
    "verify",
    "viz",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"fxbio.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'fxbio' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


# In a checkout, passes/ and cli/ stand beside this package and not in it. Python that is started
# there finds this folder before the installed package, and must find those two as well.
_HERE = os.path.dirname(os.path.abspath(__file__))
if not os.path.isdir(os.path.join(_HERE, "passes")):
    __path__.append(os.path.dirname(_HERE))
