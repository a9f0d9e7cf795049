"""Registers the passes of fxbio in the order in which they run."""

from fxbio.passes import (  # noqa: F401
    assign_rules,
    check_support,
    make_feedback,
    lower_sites,
    bind_modules,
    emit_graphs,
    check_witness,
)  # isort: skip
