"""Ray is imported by `lensmount serve --ray` and `serve run` alone, and by four files of the room."""

from __future__ import annotations

import subprocess
import sys

import grimp

IMPORT_RAY = {"application", "calls", "routing", "serving"}
FILES = {f"lensmount_service.ray.{name}" for name in IMPORT_RAY}  # and for types alone, the room itself


def test_only_the_files_that_start_or_call_ray_import_it() -> None:
    packages = ("lensmount_service", "lensmount_adapters", "lensmount_client")
    graph = grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)
    assert graph.find_modules_that_directly_import("ray") - {"lensmount_service.ray"} == FILES


def test_those_files_are_imported_only_inside_the_room_and_by_the_command() -> None:
    graph = grimp.build_graph("lensmount_service", cache_dir=None)
    for name in IMPORT_RAY:
        module = f"lensmount_service.ray.{name}"
        outside = {each for each in graph.find_modules_that_directly_import(module) if ".ray" not in each}
        assert outside <= {"lensmount_service.cli"}


def test_a_server_and_a_replica_without_ray_import_none_of_it() -> None:
    code = (
        "import sys, lensmount_service.server, lensmount_service.ray, lensmount_service.ray.door, "
        "lensmount_service.ray.replica; assert not {name for name in sys.modules if name.partition('.')[0] == 'ray'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
