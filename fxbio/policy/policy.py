"""A policy: what the YAML file says, checked but not yet matched against a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from fxbio.errors import PolicyError
from fxbio.files.fields import AtLeast, Example, Key, Mark, ReadAs
from fxbio.files.located_yaml import Node, from_plain, parse
from fxbio.files.presets import resolve_preset
from fxbio.files.reading import read_document
from fxbio.files.typed_yaml import read_section, read_value
from fxbio.files.yaml_scalars import to_yaml
from fxbio.policy.entries import Entry, OnUnsupported, RuleChoice
from fxbio.policy.where_values import GlobText

__all__ = ["Policy"]


def _version(node: Node, name: str) -> int:
    version: int = read_value(node, Annotated[int, Example("1")], name)
    if version != 1:
        raise node.fault(
            f"version {version} of the policy language is unknown",
            notes=["this fxbio reads version 1"],
            help="write: version: 1",
        )
    return version


@dataclass(frozen=True)
class Policy:
    """An ordered list of entries ``where → rule``; the last that matches a site decides."""

    version: Annotated[int, ReadAs(_version, {"const": 1}), Mark.REQUIRED, Example("1")] = field(
        default=1, kw_only=True
    )
    """Version of the policy language."""

    default: Annotated[RuleChoice, Example("bp")]
    """The rule of every site that no entry matches; normalisation scales and
    embeddings keep bp."""

    entries: Annotated[
        tuple[Entry, ...], Key("rules"), Example("[{where: {last: true}, rule: bp}]")
    ] = ()
    """Ordered entries; the last one that matches a site decides, nothing merges."""

    seed: Annotated[int, AtLeast(0), Example("0")] = 0
    """Seed of all random feedback; drawn from (seed, name of the weight)."""

    allow_backprop: Annotated[tuple[GlobText, ...], Example('["head.custom.**"]')] = ()
    """Globs on weights that may be used where no rule can be installed."""

    persist_feedback: Annotated[bool, Example("true")] = False
    """Whether fixed feedback is stored in the state_dict."""

    source: Annotated[str | None, Mark.UNWRITTEN] = field(default=None, compare=False)
    """The file it was read from."""
    text: Annotated[str, Mark.UNWRITTEN] = field(default="", compare=False)
    """The YAML as given, or as generated for a policy made in Python."""

    def checked_at(self, node: Node) -> Policy:
        """With the entries numbered."""
        return replace(self, entries=tuple(replace(e, index=i) for i, e in enumerate(self.entries)))

    @classmethod
    def from_yaml(cls, source: str | Path) -> Policy:
        """Read a policy from a file, by the name of one of fxbio's own, or from YAML itself.

        Args:
            source: a path; a name that ``fxbio policies`` lists; or a string with a line break or
                ``key: value`` in it, which is taken as YAML.

        Raises:
            PolicyError: with line and column, for anything that is not a valid policy.
        """
        if isinstance(source, str) and _is_yaml(source):
            return replace(read_section(parse(source, "<policy>"), cls, "the policy"), text=source)
        source = resolve_preset("policies", source)
        help = "the policies that fxbio has are listed by: fxbio policies"
        text = read_document(source, "policy file", PolicyError, help)
        policy = read_section(parse(text, str(source)), cls, "the policy")
        return replace(policy, source=str(source), text=text)

    @classmethod
    def uniform(cls, rule: str, **options: Any) -> Policy:
        """One rule for every site.

        Raises:
            PolicyError: for an unknown rule or option.
        """
        choice = from_plain({"rule": rule, "with": options})
        policy = cls(read_section(choice, RuleChoice, "the rule"))
        return replace(policy, text=policy.to_yaml())

    def append(
        self,
        *,
        where: Mapping[str, Any] | str,
        rule: str,
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
        expect: Mapping[str, int] | None = None,
        allow_unmatched: bool = False,
        on_unsupported: OnUnsupported = "error",
    ) -> Policy:
        """A new policy with one more entry, which wins over all others.

        Raises:
            PolicyError: for a malformed selector, an unknown rule or option.
        """
        written: dict[str, Any] = {
            "where": where,
            "rule": rule,
            "with": options or {},
            "allow_unmatched": allow_unmatched,
            "on_unsupported": on_unsupported,
        }
        if name is not None:
            written["name"] = name
        if expect is not None:
            written["expect"] = expect
        number = len(self.entries)
        entry = read_section(from_plain(written), Entry, f"entry {number + 1}")
        longer = replace(self, entries=(*self.entries, replace(entry, index=number)))
        return replace(longer, text=longer.to_yaml())

    def to_dict(self) -> dict[str, Any]:
        """The policy as it would stand in a file; keys at their defaults are left out."""
        options = self.default.options
        result: dict[str, Any] = {
            "version": self.version,
            "default": self.default.to_dict() if options else self.default.name,
        }
        if self.seed:
            result["seed"] = self.seed
        if self.persist_feedback:
            result["persist_feedback"] = True
        if self.allow_backprop:
            result["allow_backprop"] = list(self.allow_backprop)
        if self.entries:
            result["rules"] = [entry.to_dict() for entry in self.entries]
        return result

    def to_yaml(self) -> str:
        """YAML that reads back as an equal policy; comments of the original are lost."""
        return to_yaml(self.to_dict())

    @property
    def digest(self) -> str:
        """SHA-256 of what it says, with every option of every rule spelled out."""
        content = self.to_dict()
        content["default"] = {"rule": self.default.name, "with": self.default.rule().options()}
        for entry, written in zip(self.entries, content.get("rules", []), strict=True):
            written["with"] = entry.rule.rule().options()
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def _is_yaml(text: str) -> bool:
    return "\n" in text or ": " in text or not text.strip()
