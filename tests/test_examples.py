"""The examples do what they say."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

import fxbio
from fxbio.models import load_reference
from fxbio.plugins import load_plugin
from fxbio.rules import learning_rule as registry
from tests.small import Attention

EXAMPLES = Path(__file__).parents[1] / "examples"
POLICIES = sorted(path.name for path in (EXAMPLES / "policies").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    monkeypatch.setattr(sys, "path", list(sys.path))
    load_plugin(EXAMPLES / "rules" / "ternary.py")


def digits() -> tuple[nn.Module, object]:
    loaded = load_reference(str(EXAMPLES / "models" / "model.py"), seed=0)
    return loaded.model, loaded.default_inputs


def example(name: str) -> Callable[[], tuple[nn.Module, object]]:
    """A model of ``examples/models``."""

    def load() -> tuple[nn.Module, object]:
        loaded = load_reference(str(EXAMPLES / "models" / name), seed=0)
        return loaded.model, loaded.default_inputs

    return load


def resnet() -> tuple[nn.Module, object]:
    return torchvision.models.resnet18(num_classes=5), torch.rand(2, 3, 32, 32)


def attention() -> tuple[nn.Module, object]:
    return Attention(), torch.rand(4, 6)


def images() -> tuple[object, object]:
    targets = [{"boxes": torch.tensor([[4.0, 4.0, 40.0, 40.0]]), "labels": torch.tensor([1])}]
    return [torch.rand(3, 64, 64)], targets


def retinanet() -> tuple[nn.Module, object]:
    """The real one, on small images."""
    model = torchvision.models.detection.retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=4
    )
    model.transform.min_size, model.transform.max_size = (64,), 64
    return model, images()


MODELS = {
    "akrout-kp.yaml": example("cifar_resnet.py:resnet20"),
    "akrout-wm.yaml": example("cifar_resnet.py:resnet20"),
    "attention.yaml": attention,
    "bartunov-ao-sdtp.yaml": example("bartunov.py:mnist_fc"),
    "bartunov-bp.yaml": example("bartunov.py:mnist_lc"),
    "bartunov-dfa.yaml": example("bartunov.py:mnist_lc"),
    "bartunov-dtp.yaml": example("bartunov.py:mnist_lc"),
    "bartunov-fa.yaml": example("bartunov.py:mnist_lc"),
    "bartunov-sdtp.yaml": example("bartunov.py:mnist_lc"),
    "belilovsky-dgl.yaml": resnet,
    "biotorch-brsf.yaml": example("cifar_resnet.py:resnet20"),
    "biotorch-dfa.yaml": resnet,
    "biotorch-fa.yaml": example("cifar_resnet.py:resnet20"),
    "biotorch-frsf.yaml": example("cifar_resnet.py:resnet56"),
    "biotorch-usf.yaml": example("cifar_resnet.py:resnet20"),
    "ernoult-l-drl.yaml": example("mnist_conv.py"),
    "frenkel-drtp.yaml": example("mlp.py"),
    "goupy-fbp.yaml": example("cifar_resnet.py:resnet20"),
    "ji-an-pfa-o.yaml": example("mlp.py"),
    "ji-an-pfa.yaml": example("cifar_resnet.py:resnet20"),
    "kunin-aa.yaml": example("cifar_resnet.py:resnet20"),
    "kunin-ia.yaml": example("cifar_resnet.py:resnet20"),
    "kunin-sa.yaml": example("cifar_resnet.py:resnet20"),
    "launay-macro.yaml": example("encoder.py"),
    "launay-micro.yaml": example("encoder.py"),
    "moskovitz-brsf.yaml": digits,
    "moskovitz-frsf.yaml": digits,
    "moskovitz-usf.yaml": digits,
    "no-transport.yaml": digits,
    "nokland-dfa.yaml": example("mlp.py"),
    "shallow.yaml": example("mlp.py"),
    "ternary.yaml": resnet,
    "xiao-alexnet.yaml": example("xiao_alexnet.py"),
    "xiao-digits.yaml": digits,
    "xiao-everywhere.yaml": example("xiao_alexnet.py"),
    "xiao-fa.yaml": example("xiao_alexnet.py"),
    "xiao-resnet.yaml": resnet,
    "xiao-retinanet-fpn.yaml": retinanet,
    "xiao-retinanet-heads.yaml": retinanet,
    "xiao-retinanet-last-bp.yaml": retinanet,
    "xiao-retinanet.yaml": retinanet,
}
"""What each policy is for."""


@cache
def planned(name: str) -> fxbio.Plan:
    model, inputs = MODELS[name]()
    return fxbio.plan(model, fxbio.Policy.from_yaml(EXAMPLES / "policies" / name), inputs)


def rules(name: str) -> dict[str, str]:
    return {a.site.path: a.rule for a in planned(name).assignments}


def test_every_policy_has_a_model() -> None:
    assert list(MODELS) == POLICIES


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_plans_as_it_is_meant(name: str) -> None:
    plan = planned(name)
    assert bool(plan.rewritten()) == (name != "bartunov-bp.yaml")
    assert plan.warnings == ()
    assert not [a for a in plan.assignments if a.fallback]
    lines = (EXAMPLES / "policies" / name).read_text().splitlines()
    assert lines[0].startswith("# ")


def test_xiao_on_a_resnet() -> None:
    found = rules("xiao-resnet.yaml")
    assert found.pop("fc") == "bp"
    kinds = {a.site.path: a.site.op for a in planned("xiao-resnet.yaml").assignments}
    assert {rule for path, rule in found.items() if kinds[path] == "conv2d"} == {"usf"}
    assert {rule for path, rule in found.items() if kinds[path] == "norm"} == {"bp"}


def test_xiao_on_retinanet() -> None:
    found = rules("xiao-retinanet.yaml")
    backbone = [path for path, rule in found.items() if rule == "usf"]
    assert len(backbone) == 53
    assert all(path.startswith("backbone.body.") for path in backbone)
    assert {rule for path, rule in found.items() if path.startswith("head.")} == {"bp"}
    assert "backbone.fpn.inner_blocks.0.0" in found


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("xiao-retinanet.yaml", ["backbone.fpn.", "head."]),
        ("xiao-retinanet-fpn.yaml", ["head."]),
        ("xiao-retinanet-heads.yaml", []),
        ("xiao-retinanet-last-bp.yaml", ["head.classification_head.cls_logits",
                                         "head.regression_head.bbox_reg"]),
    ],
)  # fmt: skip
def test_where_the_rule_ends_in_retinanet(name: str, plain: list[str]) -> None:
    for assignment in planned(name).assignments:
        site = assignment.site
        if site.op == "conv2d":
            expected = "bp" if site.path.startswith(tuple(plain)) else "usf"
            assert assignment.rule.partition("{")[0] == expected, site.path


@pytest.mark.parametrize(("name", "last"), [("xiao-alexnet.yaml", "bp"),
                                            ("xiao-everywhere.yaml", "usf"),
                                            ("xiao-fa.yaml", "bp")])  # fmt: skip
def test_xiao_on_alexnet(name: str, last: str) -> None:
    hidden = "fa" if name == "xiao-fa.yaml" else "usf"
    found = {a.site.path: a.rule for a in planned(name).assignments if a.site.op != "norm"}
    assert found.pop("classifier.6") == last
    assert len(found) == 7
    assert set(found.values()) == {hidden}


@pytest.mark.parametrize("rule", ["usf", "frsf", "brsf", "fa"])
def test_biotorch_gives_every_layer_the_rule(rule: str) -> None:
    assignments = planned(f"biotorch-{rule}.yaml").assignments
    found = {a.rule.partition("{")[0] for a in assignments if a.site.op != "norm"}
    assert found == {rule}


def test_the_shallow_control_trains_the_last_layer_alone() -> None:
    model, inputs = MODELS["shallow.yaml"]()
    policy = fxbio.Policy.from_yaml(EXAMPLES / "policies" / "shallow.yaml")
    made = fxbio.transform(model, policy, inputs)
    made(torch.rand(2, 1, 28, 28)).square().sum().backward()
    learning = {name for name, p in made.named_parameters() if p.grad is not None}
    assert learning == {"output.weight", "output.bias"}


def test_a_retinanet_runs_the_policy() -> None:
    """A reduced one: the count of layers in the policy is that of a ResNet-50."""
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
    model = RetinaNet(backbone, num_classes=3, min_size=64, max_size=64)
    text = (EXAMPLES / "policies" / "xiao-retinanet.yaml").read_text().replace("53", "20")
    made = fxbio.transform(model, fxbio.Policy.from_yaml(text), images(), inplace=True)
    totals = {t.rule.partition("{")[0]: t.weights for t in made._fxbio_record.plan.totals()}
    assert totals["usf"] == 20


def test_attention() -> None:
    plan = planned("attention.yaml")
    assert rules("attention.yaml") == {"first": "bp", "attention": "usf",
                                       "attention.out_proj": "usf", "head": "bp"}  # fmt: skip
    assert all(a.site.attention for a in plan.assignments if a.rule == "usf")


def test_no_transport_leaves_nothing_to_backprop() -> None:
    assert set(rules("no-transport.yaml").values()) == {"fa"}
    assert {a.site.op for a in planned("no-transport.yaml").assignments} >= {"norm", "conv2d"}


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model is digits])
def test_the_policies_for_digits_run(name: str) -> None:
    model, inputs = digits()
    rules = fxbio.Policy.from_yaml(EXAMPLES / "policies" / name)
    made = fxbio.transform(model, rules, inputs, inplace=True)
    found = fxbio.verify(made)
    assert found.ok, found
    assert not found.idle


@pytest.fixture
def ternary() -> nn.Module:
    model, inputs = digits()
    policy = fxbio.Policy.from_yaml(EXAMPLES / "policies" / "ternary.yaml")
    return fxbio.transform(model, policy, inputs, inplace=True)


def test_the_rule_of_the_example_is_short(ternary: nn.Module) -> None:
    lines = (EXAMPLES / "rules" / "ternary.py").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("@fxbio.rule"))
    assert len(lines) - start < 20


def test_the_rule_of_the_example_is_verified(ternary: nn.Module) -> None:
    found = fxbio.verify(ternary)
    assert found.ok, found
    assert {row.rule for row in found.rows} == {"ternary{threshold=0.7}"}
    weight = ternary.block1.conv1.weight.detach()
    feedback = fxbio.feedback_weights(ternary)["block1.conv1.weight"]
    size = (16 * 9) ** -0.5
    values = sorted({round(float(v), 6) for v in feedback.unique()})
    assert values == [round(-size, 6), 0.0, round(size, 6)]
    small = weight.abs() <= 0.7 * weight.abs().mean()
    assert torch.equal(feedback == 0, small)
    assert torch.equal(feedback.sign()[~small], weight.sign()[~small])


def test_the_example_model_takes_its_width() -> None:
    loaded = load_reference(str(EXAMPLES / "models" / "model.py"), {"width": 4})
    assert loaded.model.stem.out_channels == 4
    assert loaded.model(loaded.default_inputs.args[0]).shape == (2, 10)


ROUTED = {
    "bartunov-dfa.yaml": (3, 1),
    "belilovsky-dgl.yaml": (8, 0),
    "biotorch-dfa.yaml": (20, 0),
    "frenkel-drtp.yaml": (2, 1),
    "launay-macro.yaml": (3, 0),
    "launay-micro.yaml": (12, 0),
    "nokland-dfa.yaml": (2, 1),
}
"""Receivers, and layers that the error reaches by itself."""


@pytest.mark.parametrize("name", ROUTED)
def test_the_policies_that_route_errors_run(name: str) -> None:
    model, inputs = MODELS[name]()
    policy = fxbio.Policy.from_yaml(EXAMPLES / "policies" / name)
    made = fxbio.transform(model, policy, inputs, inplace=True)
    found = fxbio.verify(made)
    assert found.ok, found
    routes = made._fxbio_binding.routes
    exact = [unit for unit in routes.units.values() if unit.point == "exact"]
    assert (len({unit for _, unit in routes.deliveries}), len(exact)) == ROUTED[name]
