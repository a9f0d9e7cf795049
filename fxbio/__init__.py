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

if TYPE_CHECKING:
    from fxbio import errors, nn, optim, passes, pictures, rules, study, train
    from fxbio.api import plan, revert, transform
    from fxbio.bind.feedback_training import set_phase, train_feedback
    from fxbio.bind.install import backprop, feedback_weights
    from fxbio.bind.mirror import mirror
    from fxbio.bind.updates import count_update, redraw_counts, set_redraw_counts
    from fxbio.errors import FxbioError, FxbioWarning
    from fxbio.graph.capture import capture
    from fxbio.graph.inputs import ExampleInputs
    from fxbio.graph.model_graph import ModelGraph
    from fxbio.parameter_groups import param_groups
    from fxbio.policy import Plan, Policy
    from fxbio.record.folder import load, save
    from fxbio.rules import Rule, WeightInfo, rule
    from fxbio.study import Alignment, Audit, alignment, audit
    from fxbio.verification import Verification, verify

__version__ = "0.1.0"

_HOMES = {
    "Alignment": "fxbio.study",
    "Audit": "fxbio.study",
    "ExampleInputs": "fxbio.graph.inputs",
    "FxbioError": "fxbio.errors",
    "FxbioWarning": "fxbio.errors",
    "ModelGraph": "fxbio.graph.model_graph",
    "Plan": "fxbio.policy",
    "Policy": "fxbio.policy",
    "Rule": "fxbio.rules",
    "Verification": "fxbio.verification",
    "WeightInfo": "fxbio.rules",
    "alignment": "fxbio.study",
    "audit": "fxbio.study",
    "backprop": "fxbio.bind.install",
    "capture": "fxbio.graph.capture",
    "feedback_weights": "fxbio.bind.install",
    "load": "fxbio.record.folder",
    "mirror": "fxbio.bind.mirror",
    "param_groups": "fxbio.parameter_groups",
    "plan": "fxbio.api",
    "count_update": "fxbio.bind.updates",
    "redraw_counts": "fxbio.bind.updates",
    "revert": "fxbio.api",
    "rule": "fxbio.rules",
    "save": "fxbio.record.folder",
    "set_phase": "fxbio.bind.feedback_training",
    "set_redraw_counts": "fxbio.bind.updates",
    "train_feedback": "fxbio.bind.feedback_training",
    "transform": "fxbio.api",
    "verify": "fxbio.verification",
}

_MODULES = ("errors", "nn", "optim", "passes", "pictures", "rules", "study", "train")
"""What people use by its own name, as in ``fxbio.study.log_alignment``."""

__all__ = [
    "Alignment",
    "Audit",
    "ExampleInputs",
    "FxbioError",
    "FxbioWarning",
    "ModelGraph",
    "Plan",
    "Policy",
    "Rule",
    "Verification",
    "WeightInfo",
    "alignment",
    "audit",
    "backprop",
    "capture",
    "count_update",
    "errors",
    "feedback_weights",
    "load",
    "mirror",
    "nn",
    "optim",
    "param_groups",
    "passes",
    "pictures",
    "plan",
    "redraw_counts",
    "revert",
    "rule",
    "rules",
    "save",
    "set_phase",
    "set_redraw_counts",
    "study",
    "train",
    "train_feedback",
    "transform",
    "verify",
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
