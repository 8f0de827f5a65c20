"""The command line: thin commands over the models, with messages a biologist can act on."""

from vivace.cli.app import main

__all__ = ["main"]
