"""Listings of things with a name, a docstring and options: rules, passes, sections of recipes."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fxbio.cli.console import print_json, print_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

__all__ = ["Item", "print_catalogue"]


@dataclass(frozen=True)
class Item:
    """One row of a listing."""

    name: str
    aliases: tuple[str, ...]
    summary: str
    """First line of the docstring; for a rule, its formula."""
    details: str
    paper: str
    options: tuple[dict[str, Any], ...]
    facts: Mapping[str, str]
    """What else there is to say, by the title of its column."""

    @classmethod
    def of(
        cls,
        what: type[Any],
        name: str,
        aliases: Sequence[str] = (),
        paper: str = "",
        facts: Mapping[str, str] | None = None,
        *,
        strict_lists: bool = False,
    ) -> Item:
        """The item of a dataclass whose fields are its options.

        With ``strict_lists`` an option that takes a list takes a single value only if it is a word,
        as recipes do.
        """
        plain = inspect.cleandoc(what.__doc__ or "").replace("``", "")
        summary, _, details = plain.partition("\n")
        options = _options(what, strict_lists)
        return cls(name, tuple(aliases), summary, details.strip(), paper, options, facts or {})


def _options(what: type[Any], strict_lists: bool) -> tuple[dict[str, Any], ...]:
    from fxbio.files.fields import options_of

    return tuple(
        {
            "name": option.key,
            "type": _type_text(option.hint, strict_lists),
            "required": option.required,
            "default": {} if dataclasses.is_dataclass(option.default) else option.default,
            "description": option.description,
        }
        for option in options_of(what)
    )


def _type_text(hint: Any, strict_lists: bool) -> str:
    from fxbio.files.fields import unwrapped

    hint, _ = unwrapped(hint)
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(str(choice) for choice in typing.get_args(hint))
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        from fxbio.files.typed_yaml import is_word

        inside = _type_text(parts[0], strict_lists)
        alone = is_word(parts[0]) or not strict_lists
        return f"{inside}, or a list of them" if alone else f"list of {inside}"
    if typing.get_origin(hint) is Mapping or dataclasses.is_dataclass(hint):
        return "mapping"
    if hint is type(None):
        return "null"
    if parts and typing.get_origin(hint) not in (list, dict):
        return " | ".join(_type_text(part, strict_lists) for part in parts)
    return hint.__name__ if isinstance(hint, type) and not parts else str(hint)


def print_catalogue(items: Sequence[Item], *, single: bool, as_json: bool) -> None:
    """Print a table of all items, or everything about the only one."""
    if as_json:
        data = [dataclasses.asdict(item) for item in items]
        print_json(data[0] if single else data)
    elif single:
        print_result(_page(items[0]))
    else:
        print_result(_overview(items))


def _overview(items: Sequence[Item]) -> RenderableType:
    from rich import box
    from rich.console import Console, Group
    from rich.table import Table
    from rich.text import Text

    terminal = Console()
    everything = not terminal.is_terminal or terminal.width >= _WIDE or not items[0].facts
    facts = list(items[0].facts)[: None if everything else _FEW]
    papers = everything and any(item.paper for item in items)
    columns = ["name", "what it does", *facts]
    columns += ["options"] if everything else []
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in [*columns, *(["paper"] if papers else [])]:
        table.add_column(column, overflow="fold")
    for item in items:
        names = (item.name, *item.aliases) if everything else (item.name,)
        cells = [", ".join(names), item.summary, *(item.facts[fact] for fact in facts)]
        cells += [", ".join(map(_option_text, item.options))] if everything else []
        table.add_row(*map(Text, [*cells, *([item.paper] if papers else [])]))
    if everything:
        return table
    return Group(
        table, Text("\neverything else: the same with a NAME, or in a pipe: fxbio rules | less -S")
    )


_WIDE = 200
"""Columns of a terminal that shows everything."""

_FEW = 3
"""How many facts a narrower one shows."""


def _option_text(option: dict[str, Any]) -> str:
    return option["name"] if option["required"] else f"{option['name']}={option['default']}"


def _page(item: Item) -> RenderableType:
    lines = [item.name, f"  {item.summary}"]
    if item.details:
        lines += ["", *(f"  {line}".rstrip() for line in item.details.splitlines())]
    if item.aliases:
        lines += ["", f"  also called: {', '.join(item.aliases)}"]
    if item.paper:
        lines += ["", f"  paper: {item.paper}"]
    if item.facts:
        lines += ["", *(f"  {title}: {value or 'none'}" for title, value in item.facts.items())]
    lines += ["", "  options:" if item.options else "  no options"]
    for option in item.options:
        lines.append(f"    {_option_text(option)}  ({option['type']})")
        lines += [f"        {line}" for line in option["description"].splitlines()]
    return "\n".join(lines)
