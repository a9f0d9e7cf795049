"""From blocks and their rules to what each block carries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fxbio.errors import PolicyError
from fxbio.rules import Rule
from fxbio.rules.target_propagation import TargetRule
from fxbio.target_propagation.auxiliary import AuxiliaryUnits
from fxbio.target_propagation.block_target import BlockTarget
from fxbio.target_propagation.blocks import Block
from fxbio.target_propagation.factory import load_factory
from fxbio.target_propagation.inverse import build_inverse

__all__ = ["block_rules", "make_targets"]


def block_rules(blocks: Sequence[Block], rules: Mapping[str, Rule]) -> dict[str, TargetRule]:
    """The rule of each block that has one of this family, by the name of the block.

    Args:
        blocks: of the model, in order.
        rules: of the sites of the model, by the name of the site.

    Raises:
        PolicyError: when the sites of one block have different rules.
    """
    found: dict[str, TargetRule] = {}
    for block in blocks:
        given = [rules.get(site) for site in block.sites]
        rule = next((r for r in given if isinstance(r, TargetRule)), None)
        if rule is None:
            continue
        if any(other != rule for other in given):
            raise _mixed(block, given)
        found[block.name] = rule
    return found


def _mixed(block: Block, given: Sequence[Rule | None]) -> PolicyError:
    pairs = zip(block.sites, given, strict=True)
    return PolicyError(
        f"the sites of block '{block.name}' have different rules",
        notes=[f"{site}: {'bp' if rule is None else rule}" for site, rule in pairs],
        help="targets are sent from block to block: give all sites of a block the same rule",
    )


def make_targets(
    blocks: Sequence[Block], rules: Mapping[str, TargetRule], seed: int
) -> dict[str, BlockTarget]:
    """Targets of all blocks with a rule, by the name of the block.

    Where targets begin is for the rule of the last such block to say. Every block with one before
    it gets an inverse, so a part of the model below, under another rule, is sent a difference too.

    Args:
        blocks: of the model, in order.
        rules: from ``block_rules``.
        seed: of the policy.

    Raises:
        PolicyError: when targets cannot begin where the policy has them begin.
        RuleError: when an inverse cannot be made.
    """
    ruled = [block for block in blocks if block.name in rules]
    if not ruled:
        return {}
    top = ruled[-1]
    rule = rules[top.name]
    at_output = top is blocks[-1]
    entry = top
    if rule.top == "label":
        _check_label(top, rule, at_output)
    elif rule.top == "bp" and at_output:
        entry = _below(ruled, top, rule)
    plain = top if entry is not top else None
    return {
        block.name: _target(
            block,
            rules[block.name],
            seed,
            inverted=block.predecessor is not None and block is not plain,
            last=block is top,
            factor=rule.step if block is entry and rule.top != "label" else 1.0,
        )
        for block in ruled
    }


def _target(
    block: Block, rule: TargetRule, seed: int, *, inverted: bool, last: bool, factor: float
) -> BlockTarget:
    if not inverted:
        return BlockTarget(block.name, rule, None, factor=factor)
    label = last and rule.top == "label"
    units = rule.auxiliary if label else 0
    features = math.prod(block.input_shape[1:])
    auxiliary = AuxiliaryUnits(block.name, features, units, seed) if units else None
    factory = load_factory(rule.inverse) if rule.inverse else None
    inverse = build_inverse(block, seed, placement=rule.placement, factory=factory, auxiliary=units)
    return BlockTarget(block.name, rule, inverse, softmax=label, auxiliary=auxiliary, factor=factor)


def _check_label(top: Block, rule: TargetRule, at_output: bool) -> None:
    if not at_output:
        raise PolicyError(
            f"rule '{rule.name}' begins at the label, but '{top.name}' is not the output",
            help="give the layers behind it the same rule, or choose one that begins with a step "
            "of backprop: dtp, drl or l-drl",
        )
    if len(top.output_shape) != 2:
        raise PolicyError(
            f"rule '{rule.name}' begins at the label, which needs logits (N, classes); the output "
            f"of '{top.name}' is {top.output_shape}",
            help="choose a rule that begins with a step of backprop: dtp, drl or l-drl",
        )


def _below(ruled: Sequence[Block], top: Block, rule: TargetRule) -> Block:
    """The block whose output is the first to get a target, where the output layer learns by bp."""
    for block in ruled:
        if block.name == top.predecessor:
            return block
    raise PolicyError(
        f"rule '{rule.name}' is given to the output layer '{top.name}' and not to the layer below",
        notes=[f"the layer below is in block '{top.predecessor}'"],
        help="under this rule the output layer itself learns by backprop, so give it rule: bp",
    )
