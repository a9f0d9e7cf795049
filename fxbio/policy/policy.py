"""A policy: what the YAML file says, checked but not yet matched against a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fxbio.files.yaml_scalars import to_yaml
from fxbio.policy.entries import Entry, OnUnsupported, RuleChoice
from fxbio.policy.loader import load_default, load_entry, read_policy

__all__ = ["Policy"]


@dataclass(frozen=True)
class Policy:
    """An ordered list of entries ``where → rule``; the last that matches a site decides."""

    default: RuleChoice
    entries: tuple[Entry, ...] = ()
    version: int = 1
    seed: int = 0
    allow_backprop: tuple[str, ...] = ()
    persist_feedback: bool = False
    source: str | None = field(default=None, compare=False)
    """The file it was read from."""
    text: str = field(default="", compare=False)
    """The YAML as given, or as generated for a policy made in Python."""

    @classmethod
    def from_yaml(cls, source: str | Path) -> Policy:
        """Read a policy from a file, or from a text that holds the YAML itself.

        Args:
            source: a path; or a string with a line break or ``key: value`` in it, which is taken
                as YAML.

        Raises:
            PolicyError: with line and column, for anything that is not a valid policy.
        """
        return cls(**read_policy(source))

    @classmethod
    def uniform(cls, rule: str, **options: Any) -> Policy:
        """One rule for every site.

        Raises:
            PolicyError: for an unknown rule or option.
        """
        policy = cls(load_default({"rule": rule, "with": options}))
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
        entry = load_entry(written, index=len(self.entries))
        longer = replace(self, entries=(*self.entries, entry))
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
