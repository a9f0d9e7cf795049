"""Emit by binding: the user's own modules run the rules from now on."""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.bind.install import bound_modules, install
from fxbio.errors import PassError
from fxbio.passes.base import Pass, PassResult, Program
from fxbio.passes.registry import register_pass

__all__ = ["BindModules"]


@register_pass("bind-modules")
@dataclass(frozen=True)
class BindModules(Pass):
    """Exchanges the class of every module that applies a rewritten weight, and of no other."""

    def requires(self, program: Program) -> None:
        if program.bound:
            raise PassError("the modules are bound already", help="run bind-modules once")
        owners = {a.site.owner for a in program.planned().rewritten("asymmetric")}
        if owners != set(program.pending):
            raise PassError(
                "the bindings are not prepared", help="run lower-sites before bind-modules"
            )

    def run(self, program: Program) -> PassResult:
        persist = program.planned().persist_feedback
        install(program.model, program.pending, persist=persist)
        program.bound = True
        return PassResult(bool(program.pending), f"{len(program.pending)} modules rewritten")

    def ensures(self, program: Program) -> None:
        expected = {
            program.model.get_submodule(a.site.owner)
            for a in program.planned().rewritten("asymmetric")
        }
        if expected != {module for _, module in bound_modules(program.model)}:
            raise PassError("the rewritten modules are not those of the plan")
