"""The three packages: what they export, what they import, and in which direction."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "lensmount_adapters": ROOT / "adapters" / "lensmount_adapters",
    "lensmount_client": ROOT / "client" / "lensmount_client",
    "lensmount_service": ROOT / "service" / "lensmount_service",
}
MAY_IMPORT = {
    "lensmount_adapters": {"lensmount_adapters"},
    "lensmount_client": {"lensmount_client"},
    "lensmount_service": {"lensmount_service", "lensmount_adapters", "lensmount_client"},
}


def modules(package: str) -> list[Path]:
    return sorted(FOLDERS[package].rglob("*.py"))


@dataclass(frozen=True)
class Facts:
    """What the tests ask of a module. It is parsed once for all of them, and its tree is not kept."""

    has_text: bool
    has_docstring: bool
    lines: int
    imported: frozenset[str]  # the modules of ours
    asserts: tuple[tuple[int, str], ...]  # line and statement
    calls: tuple[str, ...]  # that read a pickle, as far as their names tell
    functions: tuple[tuple[int, str, int, int], ...]  # line, name, lines, parameters


@functools.cache
def facts(path: Path) -> Facts:
    text = path.read_text()
    tree = ast.parse(text)
    imported, asserts, calls, functions = set(), [], [], []
    reads_pickles = "pickle" in text or "torch.load" in text
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names if alias.name.startswith("lensmount_")}
        elif isinstance(node, ast.ImportFrom):
            imported |= {name for name in [node.module or ""] if name.startswith("lensmount_")}
        elif isinstance(node, ast.Assert):
            asserts.append((node.lineno, ast.unparse(node)))
        elif isinstance(node, ast.Call) and reads_pickles:
            calls.append(ast.unparse(node))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            parameters = [argument for argument in given if argument.arg not in ("self", "cls")]
            functions.append((node.lineno, node.name, lines, len(parameters)))
    has_docstring = bool(ast.get_docstring(tree))
    found = (frozenset(imported), tuple(asserts), tuple(calls), tuple(functions))
    return Facts(bool(text.strip()), has_docstring, text.count("\n"), *found)


@pytest.mark.parametrize("package", ["lensmount_adapters", "lensmount_client"])
def test_all_is_the_sorted_table_of_contents(package: str) -> None:
    module = importlib.import_module(package)

    names = [name for name in module.__all__ if not name.startswith("__")]
    assert sorted(names, key=lambda name: (not name.isupper(), name)) == names
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("package", FOLDERS)
def test_arrows_go_one_way(package: str) -> None:
    for path in modules(package):
        ours = {name.partition(".")[0] for name in facts(path).imported}
        assert ours <= MAY_IMPORT[package], f"{path.name} imports {ours}"


def test_the_service_takes_only_the_version_from_the_client() -> None:
    for path in modules("lensmount_service"):
        of_client = {name for name in facts(path).imported if name.startswith("lensmount_client")}
        assert of_client <= {"lensmount_client._version"}, path.name


@pytest.mark.parametrize("package", FOLDERS)
def test_every_module_opens_with_its_idea(package: str) -> None:
    for path in modules(package):
        assert facts(path).has_docstring or not facts(path).has_text, path


@pytest.mark.parametrize("root", [*FOLDERS.values(), ROOT / "benchmarks"], ids=lambda root: root.name)
def test_a_room_has_at_most_25_modules(root: Path) -> None:
    rooms = [root, *(path for path in root.rglob("*") if path.is_dir())]
    assert [str(room) for room in rooms if len(list(room.glob("*.py"))) > 25] == []


def test_no_check_is_an_assert_that_python_o_would_drop() -> None:
    """`assert` may only tell the type checker what it cannot see from a signature."""
    allowed = re.compile(r"assert (isinstance\(|[\w.]+ is not None)")
    for package in FOLDERS:
        for path in modules(package):
            for line, statement in facts(path).asserts:
                assert allowed.match(statement), f"{path}:{line}"


def test_nothing_reads_a_pickle() -> None:
    for package in FOLDERS:
        for path in modules(package):
            for call in facts(path).calls:
                assert not call.startswith("pickle."), path
                assert not call.startswith("torch.load(") or "weights_only=True" in call, path


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """The modules of a new process after the imports of a server and a worker, without traces."""
    script = (
        "import sys, torch; before = (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()); "
        "import lensmount_adapters, lensmount_service.server, lensmount_service.worker.worker; "
        "assert before == (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()); "
        "from lensmount_service.tracing.opening import open_tracer\n"
        "with open_tracer('lensmount', {}): print(*sys.modules, sep='\\n')"
    )
    ended = subprocess.run([sys.executable, "-c", script], check=True, timeout=300, capture_output=True, text=True)
    return set(ended.stdout.split())


def test_importing_the_library_sets_nothing_in_torch(imported: set[str]) -> None:
    assert "lensmount_service.server" in imported


def test_nothing_that_makes_or_sends_spans_is_imported_before_it_is_configured(imported: set[str]) -> None:
    """FastAPI itself imports the API of OpenTelemetry, which does nothing alone."""
    parts = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto", "google.protobuf")
    assert [name for name in imported if name.startswith(parts)] == []


def test_the_library_s_names_for_python_are_those_for_the_type_checker() -> None:
    tree = ast.parse((FOLDERS["lensmount_adapters"] / "__init__.py").read_text())
    typed = {
        alias.name: (node.module or "").removeprefix("lensmount_adapters.")
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    module = importlib.import_module("lensmount_adapters")
    assert typed == {name: part for part, names in module._NAMES.items() for name in names}
    assert sorted(typed) == sorted(module.__all__)
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="nothing"):
        module.nothing  # noqa: B018  # the access is the test


SLOW = ("torch", "timm", "sklearn", "numpy", "matplotlib")


@pytest.mark.parametrize(
    "module", ["lensmount_adapters", "lensmount_adapters.cli.train", "lensmount_adapters.cli.recipe"]
)
def test_importing_a_command_does_not_import_torch(module: str) -> None:
    script = f"import sys, {module}; print([name for name in {SLOW} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout.strip()) == (0, "[]"), ended.stderr


@pytest.mark.parametrize("command", ["train", "evaluate", "recipe", "zero-shot", "sizes"])
def test_the_help_of_a_command_does_not_import_torch(command: str) -> None:
    script = (
        "import atexit, sys; from lensmount_client._cli.main import main; "
        f"atexit.register(lambda: print([name for name in {SLOW} if name in sys.modules])); "
        f"main(['{command}', '--help'])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip().splitlines()[-1] == "[]"


TESTS = ROOT / "tests"
FOLDER_OF_TESTS = {f"lensmount_{name}": TESTS / name for name in ("adapters", "client", "service")}
"""Every module has a test file of its name: `tests/<package>/<room>/test_<module>.py`."""

WITHOUT_TESTS = {
    "lensmount_adapters": frozenset(
        {
            *("config.py", "segmentation_training.py"),  # old locations that import one name
            "data/refusal.py",  # one function
            "formulas/module.py",  # what the methods of foreign/ read and return
        }
    ),
    "lensmount_client": frozenset(
        {
            "_version.py",  # one constant
            "_types/inputs.py",  # names of types
            "_files/refusal.py",  # one function
            # Copies of modules in the adapters; tests/test_layouts.py compares them and tries them on every layout.
            *(
                f"_files/{name}.py"
                for name in (
                    *(
                        "characters",
                        "dialect",
                        "exports",
                        "finder",
                        "labels",
                        "layout",
                        "listing",
                        "look_alikes",
                        "other_exports",
                        "walk",
                    ),
                )
            ),
            "_cli/extras.py",  # tests/test_extras.py tries every command without its extra
        }
    ),
    "lensmount_service": frozenset(
        {
            "engine/answer.py",  # two records
            "jobs/lease.py",  # constants
            "routes/labelling/answers.py",  # tests/service/rollouts/test_whole.py: labels of every door are evidence
            "ray/messages.py",  # records
            *(f"ray/{name}.py" for name in ("answering", "exchange")),  # both ends of test_door.py's requests
            *(f"ray/{name}.py" for name in ("calls", "routing", "serving")),  # test_application.py starts Ray once
            "jobs/phases.py",  # constants; tests/test_client_and_server_agree.py compares the phases
        }
    ),
}
"""Modules that only declare things, relative to their package; each has its reason."""


def has_tests(module: Path, package: str) -> bool:
    """True if the tests of a module are where its name says.

    `_room/_module.py` of the client has its tests in `room/test_module.py`. What the client's rooms share, such as
    `_api/adapters.py` and `_resources/adapters.py`, is one noun with one file of tests in one of the rooms.
    """
    *rooms, name = module.relative_to(FOLDERS[package]).parts
    folder, tests = FOLDER_OF_TESTS[package], f"test_{name.lstrip('_')}"
    if folder.joinpath(*(room.lstrip("_") for room in rooms), tests).is_file():
        return True
    return package == "lensmount_client" and any(folder.rglob(tests))


@pytest.mark.parametrize("package", FOLDER_OF_TESTS)
def test_the_tests_of_a_module_are_in_the_file_of_its_name(package: str) -> None:
    found = {
        module.relative_to(FOLDERS[package]).as_posix()
        for module in modules(package)
        if module.name not in ("__init__.py", "__main__.py")
        and "migrations" not in module.parts  # tests/service/store/test_migrate.py runs them all
        and not has_tests(module, package)
    }
    assert found == WITHOUT_TESTS[package]  # one that has tests now leaves the list


MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_PARAMETERS = 400, 60, 8


def test_no_source_file_or_function_is_too_long_and_none_has_too_many_parameters() -> None:
    found: list[str] = []
    for path in [
        p for folder in (*FOLDERS.values(), ROOT / "benchmarks", ROOT / "samples") for p in folder.rglob("*.py")
    ]:
        if facts(path).lines > MOST_LINES:
            found.append(f"{path.name}: {facts(path).lines} lines")
        for line, name, lines, parameters in facts(path).functions:
            if lines > MOST_LINES_OF_A_FUNCTION or parameters > MOST_PARAMETERS:
                found.append(f"{path.name}:{line} {name}: {lines} lines, {parameters} parameters")
    assert found == []


def test_no_file_of_tests_is_too_long() -> None:
    lines = {path.relative_to(TESTS).as_posix(): path.read_text().count("\n") for path in TESTS.rglob("*.py")}
    assert {name for name, count in lines.items() if count > MOST_LINES} == set()
