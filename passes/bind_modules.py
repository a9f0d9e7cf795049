"""Bind modules: the user's own modules run what the lowered graph says from now on."""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.errors import PassError
from fxbio.lowering.installation import derive_installation
from fxbio.passes.graph_pass import Pass, PassResult, Program
from fxbio.passes.registry import register_pass
from fxbio.runtime.install import bound_modules, install

__all__ = ["BindModules"]


@register_pass("bind-modules")
@dataclass(frozen=True)
class BindModules(Pass):
    """Exchanges the class of every module for which the lowered graph means something."""

    def requires(self, program: Program) -> None:
        if program.bound:
            raise PassError("the modules are bound already", help="run bind-modules once")
        missing = [name for name in program.feedback if name not in _lowered_sites(program)]
        if missing or (program.planned().rewritten("asymmetric") and not program.feedback):
            raise PassError(
                "the graph is not lowered yet", help="run lower-feedback before bind-modules"
            )

    def run(self, program: Program) -> PassResult:
        installation = derive_installation(program.lowered)
        install(program.model, installation, persist=program.planned().persist_feedback)
        program.bound = bool(installation.bindings)
        return PassResult(program.bound, f"{len(installation.bindings)} modules rewritten")

    def ensures(self, program: Program) -> None:
        expected = {
            program.model.get_submodule(path)
            for path in derive_installation(program.lowered).bindings
        }
        if expected != {module for _, module in bound_modules(program.model)}:
            raise PassError("the rewritten modules are not those of the lowered graph")


def _lowered_sites(program: Program) -> set[str]:
    """Sites whose weight the lowered graph has an entry for."""
    known = {weight.weight for weights in program.lowered.weights.values() for weight in weights}
    sites = program.graph.sites
    return {site.name for site in sites if site.weight in known}
