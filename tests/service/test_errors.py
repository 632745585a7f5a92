"""Every code that is raised is declared by its error class, and every code that a class declares is raised."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from lensmount_adapters import errors as adapters
from lensmount_service import errors as service

ROOT = Path(__file__).parent.parent.parent
WORKERS_ONLY = {"server_client.py"}  # what a worker raises about a server, and no server sends


def classes(base: type[Any]) -> list[type[Any]]:
    return [base, *(finer for kind in base.__subclasses__() for finer in classes(kind))]


ERRORS = {kind.__name__: kind for kind in [*classes(service.ServiceError), *classes(adapters.LensmountError)]}


def declared(kind: type[Any]) -> set[str]:
    return {kind.default_code, *vars(kind).get("finer_codes", ())}


@cache
def sources() -> dict[Path, ast.Module]:
    return {
        path: ast.parse(path.read_text(encoding="utf-8"))
        for package in ("service/lensmount_service", "adapters/lensmount_adapters")
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def called(call: ast.Call) -> str:
    """The name of the function or class, if it is called by its name alone."""
    return call.func.id if isinstance(call.func, ast.Name) else ""


Makers = dict[str, tuple[str, int | None]]  # function -> error class, place of the code among its arguments


def makers_of(tree: ast.Module) -> Makers:
    """The functions that make an error with the code that they are given."""
    makers: Makers = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        names = [argument.arg for argument in node.args.args]
        if "code" not in [*names, *(argument.arg for argument in node.args.kwonlyargs)]:
            continue
        for call in errors_with_a_code_named_code(node):
            makers[node.name] = (called(call), names.index("code") if "code" in names else None)
    return makers


def errors_with_a_code_named_code(node: ast.AST) -> list[ast.Call]:
    return [
        call
        for call in ast.walk(node)
        if isinstance(call, ast.Call)
        and called(call) in ERRORS
        and any(
            word.arg == "code" and isinstance(word.value, ast.Name) and word.value.id == "code"
            for word in call.keywords
        )
    ]


def raised() -> Iterator[tuple[Path, str, str]]:
    """(file, error class, code) of every code that is written where an error is made, also by way of a function."""
    of_file = {path: makers_of(tree) for path, tree in sources().items()}
    shared = {name: maker for makers in of_file.values() for name, maker in makers.items() if name[0] != "_"}
    for path, tree in sources().items():
        makers: Makers = {name: (name, None) for name in ERRORS} | shared | of_file[path]
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name not in of_file[path]:  # the code is a local variable
                for call in errors_with_a_code_named_code(node):
                    for assigned in ast.walk(node):
                        if isinstance(assigned, ast.Assign) and ast.unparse(assigned.targets[0]) == "code":
                            for code in texts(assigned.value):
                                yield path, called(call), code
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            kind, place = makers.get(called(call), (None, None))
            if kind is None:
                continue
            given = [word.value for word in call.keywords if word.arg == "code"]
            given += call.args[place : place + 1] if place is not None else []
            for value in given:
                for code in texts(value):
                    yield path, kind, code


def texts(node: ast.AST) -> list[str]:
    """The texts that an expression may have as its value: one, or both of `a if test else b`."""
    if isinstance(node, ast.IfExp):
        return [*texts(node.body), *texts(node.orelse)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


@cache  # three seconds: the file is read by a test, not while pytest collects
def raised_by_the_server() -> list[tuple[Path, str, str]]:
    return [(path, kind, code) for path, kind, code in raised() if path.name not in WORKERS_ONLY]


def test_the_search_finds_what_is_raised_in_each_of_the_ways_there_are() -> None:
    found = {(path.name, kind, code) for path, kind, code in raised_by_the_server()}
    assert ("adapter_rows.py", "NotFound", "alias_not_found") in found  # a keyword
    assert ("images.py", "ImageInvalid", "image_truncated") in found  # one of two
    assert ("client_verbs.py", "JobConflict", "job_not_finished") in found  # a local variable
    assert ("header.py", "AdapterMalformed", "empty_tensor") in found  # by way of a function, a keyword
    assert ("directory.py", "ArchiveInvalid", "zip_encrypted") in found  # by way of another file's function
    assert len({code for _, _, code in found}) > 60


def test_each_code_that_is_raised_is_declared_by_its_class_or_one_below() -> None:
    for path, kind, code in raised_by_the_server():
        assert any(code in declared(finer) for finer in classes(ERRORS[kind])), f"{path.name}: {kind} with {code}"


def test_each_code_that_a_class_declares_is_raised_somewhere() -> None:
    written = {code for _, _, code in raised_by_the_server()}
    finer = {code for kind in ERRORS.values() for code in vars(kind).get("finer_codes", ())}
    assert finer <= written
