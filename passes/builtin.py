"""Registers the passes of fxbio in the order in which they run."""

# isort: off
from fxbio.passes import assign_rules  # noqa: F401
from fxbio.passes import check_support  # noqa: F401
from fxbio.passes import make_feedback  # noqa: F401
from fxbio.passes import lower_feedback  # noqa: F401
from fxbio.passes import route_errors  # noqa: F401
from fxbio.passes import lower_broadcast  # noqa: F401
from fxbio.passes import lower_local  # noqa: F401
from fxbio.passes import lower_targets  # noqa: F401
from fxbio.passes import bind_modules  # noqa: F401
from fxbio.passes import check_witness  # noqa: F401
from fxbio.passes import emit_graphs  # noqa: F401
