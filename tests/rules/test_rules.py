"""The rules as such: start angles in closed form, feedback, registry, spec strings."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import fxbio
from fxbio.errors import FxbioError, PolicyError, RuleError
from fxbio.files.fields import options_of
from fxbio.ops.linear import linear
from fxbio.rules import (
    BroadcastRule,
    FeedbackRule,
    LocalRule,
    Rule,
    TargetRule,
    WeightInfo,
    available_rules,
    find_rule,
    learning_rule,
    make_rule,
    rule,
)
from fxbio.rules.spec import format_spec, parse_spec, split_specs

SHAPE = (512, 512)
INFO = WeightInfo("layer.weight", "linear", SHAPE)


def weight_of(distribution: str, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if distribution == "uniform":
        return torch.rand(SHAPE, generator=generator) * 2 - 1
    return torch.randn(SHAPE, generator=generator)


FEEDBACK_RULES = {
    name: cls for name, cls in available_rules().items() if issubclass(cls, FeedbackRule)
}


def feedback_of(made: FeedbackRule, weight: Tensor, seed: int = 1) -> Tensor:
    drawn = made.draw(weight, INFO, torch.Generator().manual_seed(seed))
    return made.scale(weight, INFO) * made.feedback(weight, drawn)


def angle(a: Tensor, b: Tensor) -> float:
    cosine = (a * b).sum() / (a.norm() * b.norm())
    return math.degrees(math.acos(cosine.item()))


@pytest.mark.parametrize(
    ("name", "options", "distribution", "expected"),
    [
        ("usf", {}, "uniform", 30.0),
        ("usf", {}, "normal", 37.1),
        ("signed-init", {}, "uniform", 30.0),
        ("signed-init", {}, "normal", 37.1),
        ("frsf", {"distribution": "uniform"}, "uniform", 41.4),
        ("frsf", {"distribution": "normal"}, "normal", 50.5),
        ("brsf", {"distribution": "uniform"}, "uniform", 41.4),
        ("brsf", {"distribution": "normal"}, "normal", 50.5),
        ("fa", {}, "uniform", 90.0),
        ("fa", {"distribution": "normal"}, "normal", 90.0),
    ],
)
def test_start_angle_is_that_of_the_closed_form(
    name: str, options: dict[str, Any], distribution: str, expected: float
) -> None:
    weight = weight_of(distribution)
    found = feedback_of(make_rule(name, options), weight)
    assert angle(weight, found) == pytest.approx(expected, abs=0.7)


@pytest.mark.parametrize("name", ["usf", "frsf", "brsf"])
def test_signs_follow_the_weight(name: str) -> None:
    weight = weight_of("normal")
    made = make_rule(name)
    drawn = made.draw(weight, INFO, torch.Generator().manual_seed(1))
    assert torch.equal(made.feedback(-weight, drawn), -made.feedback(weight, drawn))
    assert not made.reads_weight()
    assert make_rule(name, {"magnitude": "matched"}).reads_weight()
    assert not made.feedback(torch.zeros(SHAPE), drawn).any()


def test_signed_init_keeps_its_first_signs() -> None:
    weight = weight_of("normal")
    made = make_rule("signed-init")
    drawn = made.draw(weight, INFO, torch.Generator())
    assert drawn is not None
    assert torch.equal(made.feedback(-weight, drawn), torch.sign(weight))
    assert made.reads_weight()


def test_controls() -> None:
    weight = weight_of("normal")
    assert make_rule("bp").feedback(weight, None) is weight
    assert make_rule("frozen").feedback(weight, None) is weight
    assert [name for name, cls in FEEDBACK_RULES.items() if not cls.passes_error] == ["stop"]
    assert [name for name, cls in FEEDBACK_RULES.items() if not cls.trains_weight] == ["frozen"]
    assert [name for name, cls in available_rules().items() if not cls.rewrites] == ["bp"]
    with pytest.raises(RuleError, match="'stop' does not say what carries the error back"):
        make_rule("stop").feedback(weight, None)


def test_only_batchwise_signs_and_copies_are_renewed() -> None:
    periods = {name: cls().redraw_period() for name, cls in FEEDBACK_RULES.items()}
    assert {name for name, period in periods.items() if period} == {"brsf", "fbp"}
    assert make_rule("wm", {"growth": "norm"}).redraw_period() == 1
    assert make_rule("brsf", {"redraw_every": 5}).redraw_period() == 5


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
def test_bad_redraw_periods_are_refused(value: object) -> None:
    with pytest.raises(RuleError, match="redraw_every must be a whole number"):
        make_rule("brsf", {"redraw_every": value})


def test_names_and_aliases() -> None:
    assert list(available_rules()) == sorted(available_rules())
    for alias, name in {
        "backprop": "bp",
        "feedback-alignment": "fa",
        "sign-symmetry": "usf",
        "ss": "usf",
    }.items():
        assert find_rule(alias) is find_rule(name)
        assert alias not in available_rules()


def test_unknown_rules_are_refused_with_a_close_match() -> None:
    with pytest.raises(RuleError) as caught:
        make_rule("sign-simmetry")
    assert caught.value.headline == "unknown rule 'sign-simmetry'"
    assert "did you mean 'sign-symmetry'" in str(caught.value)
    assert "known rules: aa, " in str(caught.value)
    assert "--plugin" in str(caught.value)
    with pytest.raises(RuleError) as caught:
        make_rule("zzzz")
    assert "did you mean" not in str(caught.value)


def test_unknown_options_are_refused_with_a_close_match() -> None:
    with pytest.raises(RuleError) as caught:
        make_rule("ss", {"magnitud": 1.0})
    assert caught.value.headline == "rule 'usf' has no option 'magnitud'"
    assert "did you mean 'magnitude'" in str(caught.value)
    with pytest.raises(RuleError, match="it has no options"):
        make_rule("bp", {"a": 1})


def test_a_name_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_rule, "_RULES", dict(learning_rule._RULES))

    @dataclass(frozen=True)
    class Other(FeedbackRule):
        pass

    for name, aliases in [("usf", ()), ("other", ("ss",))]:
        with pytest.raises(RuleError, match="two rules are called") as caught:
            rule(name, aliases=aliases)(Other)
        assert "rename one of them" in str(caught.value)
    rule("other-name")(Other)
    rule("other-name")(Other)  # a module that is imported anew
    assert make_rule("other-name") == Other()


def test_a_rule_of_ones_own_needs_no_more_than_its_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drawn matrix becomes a buffer and a learned one a parameter, and both carry the error."""
    monkeypatch.setattr(learning_rule, "_RULES", dict(learning_rule._RULES))

    @rule("own-drawn")
    @dataclass(frozen=True)
    class Drawn(FeedbackRule):
        def draw(self, weight: Tensor, info: WeightInfo, generator: torch.Generator) -> Tensor:
            return torch.full_like(weight, 2.0)

    @rule("own-learned")
    @dataclass(frozen=True)
    class Learned(FeedbackRule):
        def learned(self, weight: Tensor, info: WeightInfo, generator: torch.Generator) -> Tensor:
            return torch.full_like(weight, 3.0)

    x = torch.ones(2, 4, requires_grad=True)
    for name, entry, learns in (("own-drawn", 2.0, False), ("own-learned", 3.0, True)):
        made = fxbio.transform(torch.nn.Linear(4, 5), fxbio.Policy.uniform(name), x)
        (below,) = torch.autograd.grad(made(x).sum(), x)
        assert torch.equal(below, torch.full((2, 4), 5 * entry))  # 5 outputs, each error 1
        assert (len(list(made.parameters())) == 3) == learns


@pytest.mark.parametrize(
    ("methods", "defines", "memory"),
    [
        ((), (), ""),
        (("feedback", "path", "scale"), (), ""),
        (("draw",), ("draw",), "a copy of the size of W"),
        (("learned",), ("learned",), "a parameter of the size of W"),
        (("draw", "learned"), ("draw", "learned"), "a parameter of the size of W"),
        (("learned", "local_gradient"), ("learned", "local_gradient"), "a parameter of"),
        (("draw", "redraw"), ("draw", "redraw"), "a copy of"),
    ],
    ids=str,
)
def test_what_a_rule_defines_is_what_its_class_or_a_base_of_it_overrides(
    methods: tuple[str, ...], defines: tuple[str, ...], memory: str
) -> None:
    cls = type("Own", (FeedbackRule,), {method: lambda self, *_: None for method in methods})
    for found in (cls, dataclass(frozen=True)(cls), type("Below", (cls,), {})):
        assert found.defines == set(defines)
        assert (found.draws, found.learns) == ("draw" in defines, "learned" in defines)
        assert found.memory().startswith(memory)
    assert not FeedbackRule.defines


@pytest.mark.parametrize("method", ["draw", "learned"])
def test_a_rule_that_draws_nothing_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(learning_rule, "_RULES", dict(learning_rule._RULES))
    rule("empty")(dataclass(frozen=True)(type("E", (FeedbackRule,), {method: lambda *_: None})))
    with pytest.raises(RuleError, match=rf"{method}\(\) of rule 'empty' returned nothing for 'w"):
        fxbio.transform(torch.nn.Linear(4, 5), fxbio.Policy.uniform("empty"), torch.ones(2, 4))


def test_each_rule_belongs_to_one_family_and_has_nothing_of_the_others() -> None:
    families = {
        "asymmetric": (FeedbackRule, "feedback"),
        "broadcast": (BroadcastRule, "matrix"),
        "local": (LocalRule, "layers"),
        "target": (TargetRule, "placement"),
    }
    for cls in available_rules().values():
        own = [family for family, (kind, _) in families.items() if issubclass(cls, kind)]
        assert own == [cls.family]
        assert [family for family, (_, part) in families.items() if hasattr(cls, part)] == own


def test_a_rule_of_no_family_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_rule, "_RULES", dict(learning_rule._RULES))
    bare = dataclass(frozen=True)(type("Bare", (Rule,), {"feedback": lambda self, w, d: w}))
    with pytest.raises(RuleError, match="rule 'bare' belongs to no family") as caught:
        rule("bare")(bare)
    assert "Bare derives from fxbio.Rule itself" in str(caught.value)
    assert "class Bare(fxbio.FeedbackRule)" in str(caught.value)
    assert "bare" not in available_rules()


def test_ops_take_rules_that_have_a_feedback_weight() -> None:
    x, weight = torch.ones(2, 3, requires_grad=True), torch.ones(4, 3)
    out = linear(x, weight, None, None, "dfa", 1.0)
    with pytest.raises(RuleError, match="rule 'dfa' does not say what carries the error back"):
        out.sum().backward()


def test_a_rule_without_a_matrix_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_rule, "_RULES", dict(learning_rule._RULES))

    @rule("nothing")
    @dataclass(frozen=True)
    class Nothing(FeedbackRule):
        pass

    with pytest.raises(RuleError, match="does not say what carries the error back") as caught:
        make_rule("nothing").feedback(torch.ones(2, 2), None)
    assert "define feedback(), draw() or learned() in Nothing" in str(caught.value)


@pytest.mark.parametrize("method", ["local_gradient", "redraw"])
def test_what_is_given_the_weight_must_say_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Otherwise a feedback that copies the weight would pass the audit for one that does not."""
    monkeypatch.setattr(learning_rule, "_RULES", dict(learning_rule._RULES))
    body = {method: lambda self, *_: None}
    silent = dataclass(frozen=True)(type("Silent", (FeedbackRule,), body))
    with pytest.raises(RuleError, match="does not say what its feedback takes over") as caught:
        rule("silent")(silent)
    assert f"{method}() of Silent is given the weight" in str(caught.value)
    rule("silent")(type("Declared", (silent,), {"transports": "copies"}))


def test_unsupported_operations_are_named() -> None:
    @dataclass(frozen=True)
    class LinearOnly(FeedbackRule):
        ops = ("linear",)

    conv = WeightInfo("c.weight", "conv2d", (4, 4, 3, 3))
    assert LinearOnly().unsupported(INFO) is None
    assert "serves linear, not conv2d" in str(LinearOnly().unsupported(conv))
    assert all(make_rule(name).unsupported(conv) is None for name in available_rules())


@pytest.mark.parametrize(
    "made",
    [
        *(make_rule(name) for name in available_rules()),
        make_rule("usf", {"magnitude": 0.1}),
        make_rule("usf", {"magnitude": 1e-05}),
        make_rule("fa", {"magnitude": 1e20, "distribution": "uniform"}),
        make_rule("frsf", {"magnitude": "matched"}),
        make_rule("brsf", {"magnitude": 3, "redraw_every": 7}),
    ],
    ids=str,
)
def test_a_rule_prints_as_a_spec_that_makes_it_again(made: Rule) -> None:
    assert make_rule(*parse_spec(str(made))) == made
    assert make_rule(*parse_spec(made.spec())) == made


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"a": 1, "b": -2.5, "c": 1e-9, "d": 1e300, "e": 0.1 + 0.2},
        {"a": True, "b": False, "c": None},
        {"a": "text", "b": "", "c": "yes", "d": "1", "e": "1e-3", "f": "a: b", "g": "null"},
        {"a": [1, 2, 3], "b": ["x", "y"], "c": []},
        {"a": {"k": [1, 2]}},
        {"a": "a,b", "b": "x{y", "c": "}", "d": "a=b", "e": "it's", "f": "#x", "g": "[,"},
    ],
    ids=str,
)
def test_specs_round_trip(options: dict[str, Any]) -> None:
    assert parse_spec(format_spec("some-pass", options)) == ("some-pass", options)


def test_numbers_in_specs_may_be_written_as_people_write_them() -> None:
    assert parse_spec("usf{magnitude=1e-3}") == ("usf", {"magnitude": 1e-3})
    assert parse_spec(" fa{magnitude = 2E4, distribution=normal} ") == (
        "fa",
        {"magnitude": 2e4, "distribution": "normal"},
    )


def test_commas_inside_braces_do_not_separate_specs() -> None:
    assert split_specs("a, b{x=[1,2],y=2} ,c") == ["a", "b{x=[1,2],y=2}", "c"]
    assert split_specs("") == []


@pytest.mark.parametrize("text", ["", "Usf", "usf{", "usf}", "usf{magnitude}", "1a", "a b"])
def test_what_is_no_spec_is_refused(text: str) -> None:
    with pytest.raises(FxbioError, match=r"is not a spec|has no value"):
        parse_spec(text)


RULE_OPTIONS = [
    (name, option.name) for name, cls in available_rules().items() for option in options_of(cls)
]


ODD_VALUES: list[Any] = [[], {}, [[1]], {"a": 1}, True, 1e300, -1e300, 10**15]


@pytest.mark.parametrize(("name", "option"), RULE_OPTIONS)
def test_an_option_is_taken_or_refused_whatever_it_is(name: str, option: str) -> None:
    for value in ODD_VALUES:
        policy = json.dumps({"version": 1, "default": {"rule": name, "with": {option: value}}})
        try:
            loaded = fxbio.Policy.from_yaml(f"{policy}\n")
        except PolicyError:
            continue
        assert loaded.default.options == {option: value}


@pytest.mark.parametrize("value", [1e300, 1e31, 1e-31])
@pytest.mark.parametrize(
    ("name", "option"),
    [("fa", "magnitude"), ("usf", "magnitude"), ("dfa", "init"), ("drtp", "init")],
)
def test_feedback_that_float32_cannot_hold_is_refused(name: str, option: str, value: float) -> None:
    with pytest.raises(RuleError, match=f"{option} must be between 1e-30 and 1e\\+30"):
        make_rule(name, {option: value})


def test_an_option_that_a_plug_in_calculates_with_has_a_type(monkeypatch: Any) -> None:
    monkeypatch.setattr(learning_rule, "_RULES", dict(learning_rule._RULES))

    @rule("halved")
    @dataclass(frozen=True)
    class Halved(FeedbackRule):
        share: float = 0.5

        def __post_init__(self) -> None:
            if not 0 < self.share < 1:
                raise RuleError("a share")

    policy = "version: 1\ndefault: {rule: halved, with: {share: [1]}}\n"
    with pytest.raises(PolicyError, match=r"'share' of rule 'halved' cannot be \[1\]"):
        fxbio.Policy.from_yaml(policy)
