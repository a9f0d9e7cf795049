"""Options that several commands share."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from fxbio.errors import did_you_mean
from fxbio.files.presets import Kind, preset_paths, resolve_preset

if TYPE_CHECKING:
    from fxbio.models import LoadedModel
    from fxbio.models.inputs import ExampleInputs
    from fxbio.serialization.record import ModelSource

__all__ = [
    "MODEL_HELP",
    "ModelRequest",
    "NamedPath",
    "PresetPath",
    "json_option",
    "load_plugins",
    "model_options",
    "plugin_option",
    "policy_option",
    "trust_option",
]

Command = Callable[..., None]

MODEL_HELP = """MODEL is model.py (its build_model(), model(), or only model class), model.py:build,
torchvision:resnet18, torchvision:detection/retinanet_resnet50_fpn, timm:NAME,
package.module:factory, or the bare name of a torchvision model. Python files are run."""


class NamedPath(click.Path):
    """A path as in click, but not the empty one, which is the working directory to ``Path``.

    What is to be a folder may be nothing else; click refuses regular files alone.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As in click."""
        if not os.fspath(value):
            self.fail("it is empty: name a file or a folder", param, ctx)
        if not self.file_okay and os.path.exists(value) and not os.path.isdir(value):
            self.fail(f"'{value}' is no folder", param, ctx)
        return super().convert(value, param, ctx)


class PresetPath(NamedPath):
    """A file, or the name of a preset, which becomes the path of its file; completes both."""

    def __init__(self, kind: Kind, *, exists: bool = False) -> None:
        super().__init__(exists=exists, dir_okay=False, path_type=Path)
        self.kind: Kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As in click; close names of presets are told for a file that is not there."""
        path = resolve_preset(self.kind, value) if value else value
        if self.exists and value and not Path(path).exists():
            guess = did_you_mean(Path(value).stem, list(preset_paths(self.kind)))
            hint = f" ({guess})" if guess else ""
            self.fail(
                f"file '{value}' does not exist, nor does fxbio come with that name{hint}; "
                f"list those it has with: fxbio {self.kind}",
                param,
                ctx,
            )
        return super().convert(path, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names of presets, then files."""
        names = [name for name in preset_paths(self.kind) if name.startswith(incomplete)]
        return [*map(CompletionItem, names), *super().shell_complete(ctx, param, incomplete)]


_FILE = NamedPath(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class ModelRequest:
    """A model as it was described on the command line."""

    reference: str
    inputs: tuple[str, ...]
    model_args: tuple[str, ...]
    weights: Path | None
    seed: int
    plugins: tuple[str, ...] = ()
    trust: bool = False
    """Whether to run what a folder names that somebody else has made."""

    def source(self) -> ModelSource:
        """Source that the model can be built from again."""
        from fxbio.models import parse_model_args
        from fxbio.serialization.record import ModelSource

        arguments = parse_model_args(self.model_args)
        plugins = tuple(_absolute(plugin) for plugin in self.plugins)
        return ModelSource(_absolute(self.reference), arguments, self.inputs, plugins)

    def example_inputs(self) -> ExampleInputs | None:
        """Example inputs of ``--input``; ``None`` without it."""
        from fxbio.models.input_spec import parse_inputs

        return parse_inputs(self.inputs, seed=self.seed) if self.inputs else None

    def load(self) -> tuple[LoadedModel, ExampleInputs | None]:
        """Build the model, and find out what to call it with.

        Raises:
            ModelError: when the model cannot be built, or the input cannot be read.
        """
        from fxbio.models import load_reference, parse_model_args

        inputs = self.example_inputs()
        arguments = parse_model_args(self.model_args)
        loaded = load_reference(self.reference, arguments, self.weights, seed=self.seed)
        return loaded, loaded.default_inputs if inputs is None else inputs


def model_options(*, folders: bool = False) -> Callable[[Command], Command]:
    """The model argument and what belongs to it, given to the command as one ``request``.

    Plug-ins are loaded before the command runs, so that its policy may use their rules.

    Args:
        folders: whether a folder with a transformed model may stand in its place.
    """
    argument = click.argument("model", metavar="FOLDER|MODEL" if folders else "MODEL")

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapped(
            model: str,
            inputs: tuple[str, ...],
            model_args: tuple[str, ...],
            weights: Path | None,
            plugins: tuple[str, ...],
            seed: int,
            trust: bool = False,
            **others: Any,
        ) -> None:
            load_plugins(plugins)
            request = ModelRequest(model, inputs, model_args, weights, seed, plugins, trust)
            command(request, **others)

        options = (*_MODEL_OPTIONS, trust_option) if folders else _MODEL_OPTIONS
        for option in (*reversed(options), argument):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def _absolute(reference: str) -> str:
    """A reference that holds in any working directory."""
    path, colon, name = reference.partition(":")
    return f"{Path(path).resolve()}{colon}{name}" if Path(path).is_file() else reference


plugin_option = click.option(
    "--plugin",
    "plugins",
    metavar="FILE.py",
    multiple=True,
    help="Run a file or import a module that registers rules or passes. Repeatable.",
)

policy_option = click.option(
    "--policy",
    "-p",
    "policy_file",
    type=PresetPath("policies", exists=True),
    required=True,
    help="The policy: a YAML file, or a name that `fxbio policies` lists.",
)

trust_option = click.option(
    "--trust",
    is_flag=True,
    help="Run the code that a folder names although somebody else has made it.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")

_MODEL_OPTIONS = (
    click.option(
        "--input",
        "-i",
        "inputs",
        metavar="SPEC",
        multiple=True,
        help="Example input: 1x3x224x224, 'input_ids=2x16:int64<100', '[3x64x64,3x80x64]'. "
        "Repeatable. Known models, and files with a function example_inputs(), have a default.",
    ),
    click.option(
        "--model-arg",
        "model_args",
        metavar="KEY=VALUE",
        multiple=True,
        help="Argument of the model's builder. Repeatable.",
    ),
    click.option(
        "--weights", type=_FILE, help="State dict to load, strictly, without running code."
    ),
    plugin_option,
    click.option(
        "--seed",
        type=click.IntRange(-(2**63), 2**64 - 1),
        default=0,
        show_default="0",
        help="For random initial weights and inputs.",
    ),
)


def load_plugins(plugins: Iterable[str]) -> None:
    """Register the rules and passes of installed packages and of ``--plugin``.

    Raises:
        RuleError: when one of them cannot be imported.
    """
    from fxbio.plugins import load_entry_points, load_plugin

    load_entry_points()
    for plugin in plugins:
        load_plugin(plugin)
