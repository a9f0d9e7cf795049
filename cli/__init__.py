"""The command line, imported as ``fxbio.cli``; one thin file per command."""

if __name__ != "fxbio.cli":
    # As a second module of another name it would bring a second copy of every command.
    raise ImportError(f"this package is 'fxbio.cli', not '{__name__}': import fxbio.cli")
