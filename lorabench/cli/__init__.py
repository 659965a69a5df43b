"""The commands, one module each: parse, call, print. Nothing here imports torch."""

from lorabench.cli.app import main

__all__ = ["main"]
