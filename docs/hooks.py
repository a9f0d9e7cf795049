"""A hook of mkdocs: links that lead out of docs/ are plain text on the site."""

import re
from typing import Any

_OUTSIDE = re.compile(r"!?\[([^\]]*)\]\(\.\./[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page without links that only the repository can follow."""
    return _OUTSIDE.sub(r"\1", markdown)
