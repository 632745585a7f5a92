"""The command line."""

from lensmount_client._cli.main import main

__all__ = ["main"]
