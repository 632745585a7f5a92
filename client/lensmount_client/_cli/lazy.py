"""Every command: listed here with one line of help, imported only when used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from lensmount_client._cli.extras import is_ours, missing_module, needs
from lensmount_client._cli.terminal import print_error


@dataclass(frozen=True)
class LazyEntry:
    """`function` of `module`: a plain function with typer annotations, or a typer.Typer with a group of commands.

    pip must install `extra` for it, if any. `needs_all` is False if the command does most of its work without some
    packages of its extra.
    """

    module: str
    function: str
    help: str
    extra: str = ""
    needs_all: bool = True
    missing_status: int = 2  # the exit status if a package is not installed
    wrapper: tuple[str, str] = ("", "")  # module and function that makes a command with more options of this one


CLIENT_COMMANDS = {
    "teach": LazyEntry("lensmount_client._cli.jobs", "teach", "Turn a folder of images into a live adapter."),
    "predict": LazyEntry("lensmount_client._cli.predict", "predict", "Label images."),
    "batch": LazyEntry("lensmount_client._cli.batch", "batch", "Label an archive, while nobody else asks the server."),
    "explain": LazyEntry("lensmount_client._cli.explain", "explain", "Colour what speaks for a label in an image."),
    "feedback": LazyEntry("lensmount_client._cli.pools", "feedback", "Tell the server the right label of an image."),
    "bench": LazyEntry("lensmount_client._cli.bench", "bench", "Load-test a running server."),
    "adapters": LazyEntry("lensmount_client._cli.adapters", "app", "List, upload, download and inspect adapters."),
    "datasets": LazyEntry(
        "lensmount_client._cli.datasets",
        "app",
        "Upload folders of labelled images for training, and show the server's report on them.",
    ),
    "jobs": LazyEntry(
        "lensmount_client._cli.jobs",
        "app",
        "Train adapters on the server: submit jobs, watch and cancel them, download their results.",
    ),
    "rollouts": LazyEntry(
        "lensmount_client._cli.rollouts", "app", "Try a new version on some requests, and keep or drop it."
    ),
    "tokens": LazyEntry(
        "lensmount_client._cli.tokens", "app", "Say who may use a server: make, list, rotate and revoke tokens."
    ),
    "audit": LazyEntry("lensmount_client._cli.audit", "app", "Show and export who did what on a server."),
    "store": LazyEntry(
        "lensmount_client._cli.lazy", "store", "Check and mend what a server on this machine has stored."
    ),
    "doctor": LazyEntry(
        "lensmount_client._doctor.command",
        "doctor",
        "Show what is installed, how a server would compute here, and how to get what is missing.",
    ),
    "whoami": LazyEntry("lensmount_client._cli.tokens", "whoami", "Show who the server takes you for."),
    "keys": LazyEntry("lensmount_client._cli.tokens", "keys", "Make keys to sign adapters with."),
}
LAZY_COMMANDS = {  # of the other packages
    "serve": LazyEntry("lensmount_service.cli", "serve", "Start a server on this machine.", "serve"),
    "worker": LazyEntry(
        "lensmount_service.cli", "worker", "Train a server's jobs on this machine.", "serve,train", missing_status=78
    ),
    "calibrate": LazyEntry(
        "lensmount_service.cli", "calibrate", "Measure which settings serve fastest on this machine.", "serve"
    ),
    "gc": LazyEntry("lensmount_service.cli", "gc", "Remove files of a server that nothing refers to.", "serve"),
    "backup": LazyEntry(
        "lensmount_service.cli", "backup", "Copy a server's state into a folder, while it runs.", "serve"
    ),
    "restore": LazyEntry("lensmount_service.cli", "restore", "Put a backup into an empty state folder.", "serve"),
    "train": LazyEntry(
        "lensmount_adapters.cli.train", "train", "Train an adapter from a folder of labelled images.", "train"
    ),
    "evaluate": LazyEntry(
        "lensmount_adapters.cli.evaluate", "evaluate", "Measure an adapter on a folder of labelled images.", "train"
    ),
    "review": LazyEntry(
        "lensmount_adapters.cli.review",
        "review",
        "Find likely wrong labels, outliers and look-alikes in a folder of labelled images.",
        "train",
    ),
    "recipe": LazyEntry(
        "lensmount_adapters.cli.recipe",
        "recipe",
        "Reproduce a published system and print our numbers next to its.",
        "train",
    ),
    "zero-shot": LazyEntry(
        "lensmount_adapters.cli.zero_shot",
        "zero_shot",
        "Make an adapter from texts, without images (CLIP).",
        "train,clip",
    ),
    "sizes": LazyEntry(
        "lensmount_adapters.cli.sizes",
        "sizes",
        "Count the parameters and bytes that adapters of a backbone need.",
        "train",
        needs_all=False,
    ),
    "store check": LazyEntry(
        "lensmount_service.cli", "check", "List what is damaged, missing or left over. Changes nothing.", "serve"
    ),
    "store recover": LazyEntry(
        "lensmount_service.cli", "recover", "Mend a damaged database, and set damaged files apart.", "serve"
    ),
    "adapters compose": LazyEntry(
        "lensmount_adapters.cli.compose",
        "compose",
        "Make a new adapter from several on one backbone.",
        "torch",
        wrapper=("lensmount_client._cli.pulled", "from_server"),
    ),
    "keys create": LazyEntry(
        "lensmount_client._cli.tokens", "create_key_file", "Make a key to sign adapters with.", "signing"
    ),
    "keys show": LazyEntry(
        "lensmount_client._cli.tokens", "show_key", "Print the public key of a private one.", "signing"
    ),
    "adapters sign": LazyEntry("lensmount_client._cli.tokens", "sign", "Sign an adapter file with a key.", "signing"),
    "adapters extract": LazyEntry(
        "lensmount_adapters.cli.extract",
        "extract",
        "Make an adapter of a network that was fine-tuned as a whole.",
        "torch",
    ),
}


class LazyCommand(TyperCommand):
    """A placeholder that shows one line in the help. Its first use loads the real command."""

    def __init__(self, name: str, entry: LazyEntry) -> None:
        super().__init__(name, help=entry.help, callback=lambda: None)
        self._entry = entry

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        try:
            command = self._load()
        except typer.Exit:
            if extra.get("resilient_parsing"):  # the shell asks for completions, and without the package there are none
                return super().make_context(info_name, args, parent, **extra)
            raise
        return command.make_context(info_name, args, parent, **extra)

    def _load(self) -> Any:
        entry = self._entry
        try:
            found = getattr(import_module(entry.module), entry.function)
        except ModuleNotFoundError as error:
            if not entry.extra:
                raise
            print_error(needs(str(error.name), entry.extra))
            raise typer.Exit(entry.missing_status) from error
        if isinstance(found, typer.Typer):
            group = get_group(found)
            group.name, group.help = self.name, entry.help
            return group
        app = typer.Typer(add_completion=False)
        module, wrapper = entry.wrapper
        command_of_app = getattr(import_module(module), wrapper)(found) if module else found
        app.command(self.name, help=found.__doc__ or entry.help)(command_of_app)
        command = get_command(app)
        command.callback = _guarded(command.callback, entry)
        return command


def _guarded(function: Callable[..., Any] | None, entry: LazyEntry) -> Callable[..., Any]:
    """The function, with a one-line message instead of a traceback if a package of its extra is not installed.

    Packages are checked first: a training must not end after hours because the report's template engine is missing.
    """

    def call(*arguments: Any, **options: Any) -> Any:
        missing = missing_module(entry.extra) if entry.needs_all else None
        if missing is not None:
            print_error(needs(missing, entry.extra))
            raise typer.Exit(entry.missing_status)
        try:
            return function(*arguments, **options) if function is not None else None
        except ModuleNotFoundError as error:
            if is_ours(error):
                raise
            print_error(needs(str(error.name), entry.extra))
            raise typer.Exit(entry.missing_status) from error

    return call


class LazyGroup(TyperGroup):
    """The commands of the client, followed by those of the other packages."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in (CLIENT_COMMANDS | LAZY_COMMANDS).items():
            if " " not in name:
                self.add_command(LazyCommand(name, entry))


class LazySubgroup(TyperGroup):
    """The commands of a group of the client, followed by those of the other packages, such as "adapters extract"."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in LAZY_COMMANDS.items():
            group, _, command = name.partition(" ")
            if command and group == self.name:
                self.add_command(LazyCommand(command, entry))


store = typer.Typer(name="store", cls=LazySubgroup, no_args_is_help=True)  # all of its commands are the server's
