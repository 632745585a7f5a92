"""The rooms of each package: which may import which, on how many floors, and that no imports form a circle."""

from __future__ import annotations

import importlib
import re
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

GROUND = {
    "lensmount_adapters": {
        "atomic",
        "characters",
        "dtypes",
        "errors",
        "faults",
        "lazy",
        "light_timm",
        "machine",
        "patterns",
        "strict",
        "suggestion",
    },
    "lensmount_client": {"_advice", "_errors", "_problem", "_reference", "_version"},
    "lensmount_service": {
        "background_thread",
        "errors",
        "logs",
        "metrics",
        "quarantine",
        "rollout_spec",
        "state_folder",
        "stopping",
        "turnstile",
    },
}
"""Files at the top of a package that every room may import."""

MAY_IMPORT = {
    "lensmount_adapters": {
        "cli": (
            "recipe training export options report compose extract foreign changes quality text trust adapter data "
            "backbone inputs"
        ),
        "explain": "graph adapter backbone inputs",
        "recipe": "training options report text metrics adapter backbone",
        "training": (
            "options augmentation fast_convolutions explain report quality text masks data trust metrics "
            "graph trunks programs swap adapter delta backbone inputs"
        ),
        "runners": "graph trunks programs kernels swap adapter delta backbone inputs",
        "report": "options adapter data metrics delta backbone inputs",
        "trust": "adapter metrics",
        "swap": "adapter delta backbone",
        "trunks": "graph programs adapter backbone inputs",
        "graph": "delta backbone",
        "export": "programs adapter delta backbone inputs",
        "compose": "changes adapter delta backbone",
        "extract": "foreign changes adapter backbone inputs",
        "foreign": "formulas adapter delta backbone zips inputs",
        "formulas": "adapter",
        "changes": "adapter backbone",
        "adapter": "delta backbone inputs",
        "delta": "backbone",
        "draft": "adapter backbone inputs",
        "quality": "data groups metrics backbone inputs",
        "masks": "data zips inputs",
        "data": "groups zips inputs",
        "groups": "",
        "text": "adapter backbone",
        "active": "",
        "augmentation": "inputs",
        "backbone": "inputs",
        "programs": "",
        "kernels": "",
        "options": "",
        "fast_convolutions": "",
        "inputs": "",
        "zips": "",
        "metrics": "",
    },
    "lensmount_client": {
        "_doctor": "_cli",
        "_cli": "_client _async_client _bench _resources _show _http _files _types",
        "_resources": "_api _show _http _files _types",
        "_api": "_http _files _show _types _html",
        "_bench": "_http",
        "_http": "_types",
        "_files": "_types",
        "_show": "_types",
        "_types": "_html",
        "_html": "",
    },
    "lensmount_service": {
        "ray": "access oip store twins web worker build settings startup",
        "oip": "access engine monitoring rollouts routes store tenants tracing web settings",
        "twins": "access routes store web",
        "monitoring": "engine jobs rollouts store tracing",
        "rollouts": "engine store",
        "routes": (
            "access archive engine jobs monitoring pools review rollouts sources store tenants tracing web settings"
        ),
        "sources": "",
        "tenants": "access engine jobs pools store tracing",
        "pools": "store",
        "access": "store",
        "web": "jobs store",
        "engine": "tracing",
        "archive": "",
        "review": "store",
        "worker": "jobs repair store tracing settings",
        "backup": "jobs pools repair store",
        "repair": "store",
        "jobs": "store",
        "store": "tracing",
        "tracing": "",
    },
}
"""Room to the rooms that it may import; lazy imports and those for types alone count as well."""

MOST_FLOORS = 9


@pytest.fixture(scope="module", params=MAY_IMPORT)
def package(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def modules(package: str) -> dict[str, set[str]]:
    """Each module of the package and the modules of the package that it imports anywhere in its text."""
    graph = grimp.build_graph(package, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in sorted(graph.modules)}


def room_of(module: str) -> str:
    """The folder below the package, or the file at its top."""
    return module.split(".")[1] if "." in module else "__init__"


def rooms_of(modules: dict[str, set[str]]) -> dict[str, set[str]]:
    rooms: dict[str, set[str]] = {}
    for module, imported in modules.items():
        rooms.setdefault(room_of(module), set()).update(room_of(other) for other in imported)
    return {room: others - {room} for room, others in rooms.items()}


def test_a_room_imports_only_the_rooms_below_it(package: str, modules: dict[str, set[str]]) -> None:
    rooms = rooms_of(modules)
    for room, allowed in MAY_IMPORT[package].items():
        assert rooms[room] <= {*allowed.split(), *GROUND[package]}, room


def test_no_imports_form_a_circle(modules: dict[str, set[str]]) -> None:
    TopologicalSorter(modules).prepare()  # raises CycleError with the circle
    TopologicalSorter(rooms_of(modules)).prepare()


def test_there_are_at_most_nine_floors_of_rooms(modules: dict[str, set[str]]) -> None:
    rooms = rooms_of(modules)
    floor: dict[str, int] = {}
    for room in TopologicalSorter(rooms).static_order():
        floor[room] = 1 + max((floor[below] for below in rooms[room]), default=0)
    assert max(floor.values()) <= MOST_FLOORS, floor


def test_every_room_says_what_it_is_for_in_one_line(package: str) -> None:
    for room in MAY_IMPORT[package]:
        docstring = importlib.import_module(f"{package}.{room}").__doc__ or ""
        assert docstring.partition("\n")[0].endswith("."), room


def test_contributing_lists_the_rooms_and_what_they_may_import() -> None:
    text = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()
    listed = dict(re.findall(r"^  (\w+)/ .*? -> (.+)$", text, re.MULTILINE))
    rows = {room: set() if words == "(nothing)" else set(words.split()) for room, words in listed.items()}
    assert rows == {room: set(words.split()) for room, words in MAY_IMPORT["lensmount_adapters"].items()}
