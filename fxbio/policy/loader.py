"""Policies from YAML or from Python values, with every mistake reported where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fxbio.errors import Location, PolicyError, RuleError, did_you_mean
from fxbio.files.located_yaml import Node, from_plain, parse
from fxbio.files.reading import read_text
from fxbio.policy.checks import as_flag, as_list, as_mapping, as_text, as_texts, as_whole
from fxbio.policy.entries import Entry, Expect, OnUnsupported, RuleChoice
from fxbio.policy.keys import DEFAULT_KEYS, ENTRY_KEYS, EXPECT_KEYS, POLICY_KEYS, WHERE_KEYS
from fxbio.policy.options import fits, option_descriptions, rule_options
from fxbio.policy.where_loader import check_glob, load_where
from fxbio.rules import Rule, find_rule, make_rule
from fxbio.userfile import anchored

__all__ = ["load_default", "load_entry", "read_policy"]

_IN_WHERE = {key: f"'{key}' belongs under 'where'" for key in WHERE_KEYS}


def read_policy(source: str | Path) -> dict[str, Any]:
    """The fields of a policy from a file or a YAML text; see ``Policy.from_yaml``.

    Raises:
        PolicyError: at the place of the first mistake.
    """
    if isinstance(source, str) and _is_yaml(source):
        return _load_policy(parse(source, "<policy>"), source=None, text=source)
    text = _read_file(Path(source))
    return _load_policy(parse(text, str(source)), source=str(source), text=text)


def _is_yaml(text: str) -> bool:
    return "\n" in text or ": " in text or not text.strip()


def _read_file(path: Path) -> str:
    try:
        # utf-8-sig: a byte-order mark would shift the columns of the first line.
        return read_text(path, encoding="utf-8-sig")
    except FileNotFoundError as error:
        nearby = [*path.parent.glob("*.yaml"), *path.parent.glob("*.yml")]
        guess = did_you_mean(path.name, [file.name for file in nearby])
        raise PolicyError(
            f"there is no policy file '{path}'", notes=[guess] if guess else []
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"the policy file '{path}' cannot be read: {error}") from error


def load_default(value: Mapping[str, Any]) -> RuleChoice:
    """A default rule from Python values.

    Raises:
        PolicyError: for an unknown rule or option.
    """
    return _load_default(from_plain(value))


def load_entry(value: Mapping[str, Any], index: int) -> Entry:
    """An entry from Python values, checked like one from a file.

    Raises:
        PolicyError: for whatever would be wrong in a file.
    """
    return _load_entry(from_plain(value), index)


def _load_policy(node: Node, source: str | None, text: str) -> dict[str, Any]:
    keys = as_mapping(node, "the policy", POLICY_KEYS, required=("version", "default"))
    _check_version(keys["version"])
    return dict(
        default=_load_default(keys["default"]),
        entries=_load_entries(keys.get("rules")),
        seed=as_whole(keys["seed"], "seed", "seed: 0", minimum=0) if "seed" in keys else 0,
        allow_backprop=_load_globs(keys.get("allow_backprop")),
        persist_feedback=_flag(keys, "persist_feedback", POLICY_KEYS["persist_feedback"].example),
        source=source,
        text=text,
    )


def _check_version(node: Node) -> None:
    if as_whole(node, "version", "version: 1") != 1:
        raise PolicyError(
            f"version {node.value} of the policy language is unknown",
            location=node.location,
            notes=["this fxbio reads version 1"],
            help="write: version: 1",
        )


def _load_entries(node: Node | None) -> tuple[Entry, ...]:
    if node is None or node.value == []:
        return ()
    items = as_list(node, "rules", POLICY_KEYS["rules"].example)
    return tuple(_load_entry(item, index) for index, item in enumerate(items))


def _load_globs(node: Node | None) -> tuple[str, ...]:
    if node is None:
        return ()
    texts = as_texts(node, "allow_backprop", POLICY_KEYS["allow_backprop"].example)
    return tuple(check_glob(text, item).text for text, item in texts)


def _flag(keys: dict[str, Node], key: str, example: str) -> bool:
    return as_flag(keys[key], key, example) if key in keys else False


def _load_default(node: Node) -> RuleChoice:
    if isinstance(node.value, str):
        return _load_rule(node, None)
    if not isinstance(node.value, dict):
        as_text(node, "default", "default: bp")
    keys = as_mapping(node, "default", DEFAULT_KEYS, required=("rule",))
    return _load_rule(keys["rule"], keys.get("with"))


def _load_entry(node: Node, index: int) -> Entry:
    what = f"entry {index + 1}"
    elsewhere = _IN_WHERE | _option_hints(node)
    keys = as_mapping(node, what, ENTRY_KEYS, required=("where", "rule"), elsewhere=elsewhere)
    name = keys.get("name")
    return Entry(
        index=index,
        where=load_where(keys["where"]),
        rule=_load_rule(keys["rule"], keys.get("with")),
        name=as_text(name, "name", ENTRY_KEYS["name"].example) if name else None,
        expect=_load_expect(keys["expect"]) if "expect" in keys else None,
        allow_unmatched=_flag(keys, "allow_unmatched", ENTRY_KEYS["allow_unmatched"].example),
        on_unsupported=_load_on_unsupported(keys.get("on_unsupported")),
        location=node.location,
    )


def _option_hints(node: Node) -> dict[str, str]:
    """Options of the entry's rule that were written beside ``rule`` instead of under ``with``."""
    name = node.value.get("rule") if isinstance(node.value, dict) else None
    try:
        options = make_rule(str(name.value)).options() if name else {}
    except (RuleError, TypeError):  # an unknown rule is reported in its turn
        return {}
    return {key: f"options go under 'with': with: {{{key}: …}}" for key in options}


def _load_on_unsupported(node: Node | None) -> OnUnsupported:
    if node is None or node.value == "error":
        return "error"
    if node.value == "bp":
        return "bp"
    raise PolicyError(
        f"on_unsupported must be error or bp, not '{node.plain()}'",
        location=node.location,
        help="write, for example: on_unsupported: bp",
    )


def _load_expect(node: Node) -> Expect:
    keys = as_mapping(node, "expect", EXPECT_KEYS)
    bounds = {
        key: as_whole(value, key, EXPECT_KEYS[key].example, minimum=0)
        for key, value in keys.items()
    }
    fault = None
    if not bounds:
        fault = "it is empty"
    elif "count" in bounds and len(bounds) > 1:
        fault = "count stands alone"
    elif bounds.get("min", 0) > bounds.get("max", bounds.get("min", 0)):
        fault = "min is above max"
    if fault:
        raise PolicyError(
            f"expect makes no sense: {fault}",
            location=node.location,
            help="write {count: N}, {min: N}, {max: N} or {min: N, max: M}",
        )
    return Expect(**bounds, location=node.location)


def _load_rule(name: Node, options: Node | None) -> RuleChoice:
    text = as_text(name, "rule", ENTRY_KEYS["rule"].example)
    try:
        cls = find_rule(text)
    except RuleError as error:
        raise _placed(error, name.location) from error
    given = _given_options(options)
    values = {key: _option_value(node) for key, node in given.items()}
    missing = [o.name for o in rule_options(cls) if o.required and o.name not in given]
    if missing and given.keys() <= {o.name for o in rule_options(cls)}:
        raise PolicyError(
            f"rule '{cls.name}' needs the option '{missing[0]}'",
            location=name.location,
            help=f"see: fxbio rules {cls.name}",
        )
    try:
        make_rule(cls.name, values)
    except RuleError as error:
        raise _placed(error, _culprit(cls, given) or name.location) from error
    except TypeError:  # a rule of the user's that calculates with what it was given
        _check_types(cls, given)
        raise
    _check_types(cls, given)
    return RuleChoice(cls.name, values, name.location)


def _option_value(node: Node) -> Any:
    """Files that it names are those beside the policy, wherever it is used from."""
    return anchored(node.value, node.folder) if isinstance(node.value, str) else node.plain()


def _given_options(node: Node | None) -> dict[str, Node]:
    if node is None:
        return {}
    if isinstance(node.value, dict):
        return node.value
    raise PolicyError(
        "'with' must be a mapping of options",
        location=node.location,
        help="write, for example: with: {magnitude: xiao}",
    )


def _placed(error: RuleError, location: Location | None) -> PolicyError:
    return PolicyError(error.headline, location=location, notes=error.notes, help=error.help)


def _culprit(cls: type[Rule], given: dict[str, Node]) -> Location | None:
    """The place of the option that a rule objects to: each is tried by itself."""
    known = {option.name for option in rule_options(cls)}
    for key, node in given.items():
        if key not in known:
            return node.key
    for key, node in given.items():
        try:
            make_rule(cls.name, {key: node.plain()})
        except RuleError:
            return node.location
        except TypeError:  # a required option is missing in this trial
            continue
    return None


def _check_types(cls: type[Rule], given: dict[str, Node]) -> None:
    """For rules that do not check the types of their options themselves."""
    for option in rule_options(cls):
        node = given.get(option.name)
        if node is not None and not fits(node.plain(), option.hint):
            described = option_descriptions(cls).get(option.name)
            raise PolicyError(
                f"option '{option.name}' of rule '{cls.name}' cannot be {node.plain()!r}",
                location=node.location,
                notes=[described] if described else [],
                help=f"see: fxbio rules {cls.name}",
            )
