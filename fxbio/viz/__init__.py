"""Pictures of a model: the forward path, and beside it the way its errors take.

``draw`` makes a ``Picture``, which knows nothing of formats; ``save`` writes it as SVG, HTML or
text for Graphviz.
"""

from fxbio.viz.draw import draw
from fxbio.viz.picture import Level, Picture
from fxbio.viz.picture_files import FORMATS, check_format, save

__all__ = ["FORMATS", "Level", "Picture", "check_format", "draw", "save"]
