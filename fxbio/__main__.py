"""``python -m fxbio``, the same as the ``fxbio`` command."""

from fxbio.cli.main import main

main()
