"""Policy × model → plan. Nothing is changed; everything that can be wrong is found here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxbio.errors import Location, PolicyError, UnreachableWeightError
from fxbio.policy.assignment import DEFAULT, KEPT, Assignment, Decision
from fxbio.policy.entries import Entry, RuleChoice
from fxbio.policy.matching import match_entry
from fxbio.policy.plan import Plan
from fxbio.policy.policy import Policy
from fxbio.policy.selector import Graph
from fxbio.rules import FeedbackRule, Rule, WeightInfo, make_rule
from fxbio.site import Site

__all__ = ["resolve"]


@dataclass(frozen=True)
class _Voice:
    """An entry, or the default, with all that is needed to apply it to a site."""

    decision: Decision
    rule: Rule
    location: Location | None
    keeps_bp_if_unreachable: bool
    keeps_bp_if_unsupported: bool


def resolve(policy: Policy, graph: Graph) -> Plan:
    """Give every site of a model the rule that a policy has for it.

    Args:
        policy: the policy.
        graph: the captured model.

    Returns:
        A plan with one assignment per site.

    Raises:
        PolicyError: when an entry matches nothing or not what it expects, a rule cannot serve a
            site, or uses of one weight would get different rules.
        UnreachableWeightError: when an entry asks for a site where no rule can be installed.
    """
    matches = [(_entry_voice(entry), match_entry(entry, graph)) for entry in policy.entries]
    voices: dict[str, list[_Voice]] = {site.name: [] for site in graph.sites}
    for voice, sites in matches:
        for site in sites:
            voices[site.name].append(voice)
    default = _default_voice(policy.default)
    kept = {
        kind: _Voice(Decision(None, name), make_rule("bp"), None, True, True)
        for kind, name in KEPT.items()
    }
    fallbacks = {site.name: kept.get(site.op, default) for site in graph.sites}
    ranked = [(site, [fallbacks[site.name], *voices[site.name]]) for site in graph.sites]
    _check_shared_weights([(site, heard[-1]) for site, heard in ranked])
    return Plan(
        model=graph.name,
        assignments=tuple(_assign(site, heard) for site, heard in ranked),
        unreachable=graph.unreachable,
        warnings=_overridden_entries(matches, {site.name: heard[-1] for site, heard in ranked}),
        seed=policy.seed,
        persist_feedback=policy.persist_feedback,
        allow_backprop=policy.allow_backprop,
        model_digest=graph.digest,
        policy_digest=policy.digest,
        policy_text=policy.text,
        policy_source=policy.source,
    )


def _entry_voice(entry: Entry) -> _Voice:
    decision = Decision(entry.index, entry.label, _place(entry.location))
    lenient = entry.on_unsupported == "bp"
    return _Voice(decision, entry.rule.rule(), entry.location, lenient, lenient)


def _default_voice(choice: RuleChoice) -> _Voice:
    # A default asks for nothing in particular: what it cannot reach is listed, not an error.
    decision = Decision(None, DEFAULT, _place(choice.location))
    return _Voice(decision, choice.rule(), choice.location, True, False)


def _place(location: Location | None) -> str:
    return f"{Path(location.file).name}:{location.line}" if location else ""


def _assign(site: Site, heard: list[_Voice]) -> Assignment:
    """The last voice decides; the first is the default, which counts as nothing to override."""
    voice = heard[-1]
    fallback = _obstacle(site, voice)
    rule = make_rule("bp") if fallback else voice.rule
    return Assignment(
        site=site,
        rule=rule.name,
        options=_plain(rule.options()),
        decided_by=voice.decision,
        overrides=tuple(earlier.decision for earlier in heard[1:-1]),
        fallback=fallback,
    )


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Options as JSON would give them back."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in options.items()}


def _obstacle(site: Site, voice: _Voice) -> str | None:
    """Reason why bp must stay at a site, or ``None``; raises where the policy forbids that."""
    if not voice.rule.rewrites:
        return None
    asked = f"not {voice.rule.name}"
    if site.unreachable:
        if not voice.keeps_bp_if_unreachable:
            raise _unreachable(site, site.unreachable, voice)
        return f"{asked}: {site.unreachable}"
    info = WeightInfo.of(site)
    reason = voice.rule.unsupported(info)
    if reason and not voice.keeps_bp_if_unsupported:
        raise _unsupported(site, reason, voice)
    return f"{asked}: {reason}" if reason else None


def _unreachable(site: Site, reason: str, voice: _Voice) -> UnreachableWeightError:
    where = f" ({site.origin})" if site.origin else ""
    return UnreachableWeightError(
        f"no rule can be installed at '{site.name}', but {voice.decision.name} asks for "
        f"{voice.rule.name}",
        location=voice.location,
        notes=[f"reason: {reason}{where}"],
        help="let these sites keep bp with 'on_unsupported: bp', or select fewer",
    )


def _unsupported(site: Site, reason: str, voice: _Voice) -> PolicyError:
    if voice.decision.entry is None:
        advice = f"give such sites an entry of their own: {{where: {{op: {site.op}}}, rule: bp}}"
    else:
        advice = "let these sites keep bp with 'on_unsupported: bp', or select fewer"
    return PolicyError(
        f"rule '{voice.rule.name}' cannot serve '{site.name}'",
        location=voice.location,
        notes=[f"reason: {reason}"],
        help=advice,
    )


def _check_shared_weights(asked: list[tuple[Site, _Voice]]) -> None:
    uses: dict[str, list[tuple[Site, _Voice]]] = {}
    for site, voice in asked:
        if voice.decision.name in KEPT.values():
            continue
        earlier = uses.setdefault(site.weight, [])
        for other, other_voice in earlier:
            if not _may_share((site, voice.rule), (other, other_voice.rule)):
                raise PolicyError(
                    f"two rules for the one weight '{site.weight}'",
                    location=voice.location or other_voice.location,
                    notes=[
                        f"'{s.name}' gets {v.rule} from {v.decision}"
                        for s, v in ((other, other_voice), (site, voice))
                    ],
                    help="a weight has one feedback: select all of its uses, or none",
                )
        earlier.append((site, voice))


def _may_share(one: tuple[Site, Rule], other: tuple[Site, Rule]) -> bool:
    """True if two uses of a weight may have these rules.

    That of a table is about what arrives at it, and the head that is tied to it may have its own;
    but either the weight learns or it does not.
    """
    (_, rule), (_, other_rule) = one, other
    if rule == other_rule:
        return True
    apart = any(
        site.op == "embedding" and (not r.rewrites or r.family != "asymmetric")
        for site, r in (one, other)
    )
    return apart and _trains(rule) == _trains(other_rule)


def _trains(rule: Rule) -> bool:
    return not isinstance(rule, FeedbackRule) or rule.trains_weight


def _overridden_entries(
    matches: list[tuple[_Voice, tuple[Site, ...]]], decided: dict[str, _Voice]
) -> tuple[str, ...]:
    """A warning for each entry that matches sites and decides none."""
    warnings = []
    for voice, sites in matches:
        winners = [decided[site.name] for site in sites]
        if winners and voice not in winners:
            names = ", ".join(dict.fromkeys(str(winner.decision) for winner in winners))
            warnings.append(f"{voice.decision} has no effect: overridden by {names}")
    return tuple(warnings)
