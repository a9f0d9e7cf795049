"""Registers the passes of fxbio in the order in which they run."""

from fxbio.passes import (  # noqa: F401
    assign_rules,
    bind_modules,
    check_support,
    check_witness,
    emit_graphs,
    lower_sites,
    make_feedback,
)  # isort: skip
