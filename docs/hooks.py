"""A hook of mkdocs: links to files of the repository outside docs/ become plain text on the site."""

import re
from typing import Any

_OUTSIDE = re.compile(r"!?\[([^\]]*)\]\(\.\./[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page without links that only the repository can follow."""
    return _OUTSIDE.sub(r"\1", markdown)
