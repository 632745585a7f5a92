"""A TypeScript client is generated from the OpenAPI document, and a program that uses it passes tsc."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

FILES = Path(__file__).parent / "typescript"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the program and the generator, which npm installs."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm")
    for file in FILES.iterdir():
        shutil.copy(file, tmp_path)
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", "--loglevel=error"]
    installed = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    if installed.returncode != 0:
        pytest.skip(f"npm cannot install the generator: {installed.stderr[-300:]}")
    return tmp_path


def run(project: Path, command: str, *arguments: str) -> None:
    ran = subprocess.run(
        [str(project / "node_modules/.bin" / command), *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_typescript_client_is_generated_and_passes_the_strict_compiler(
    shared_client: TestClient, project: Path
) -> None:
    document = cast(FastAPI, shared_client.app).openapi()
    (project / "openapi.json").write_text(json.dumps(document))
    run(project, "openapi-typescript", "openapi.json", "--output", "lensmount.ts")
    strict = ("--strict", "--noEmit", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom,dom.iterable")
    run(project, "tsc", *strict, "--skipLibCheck", "--noUncheckedIndexedAccess", "example.ts", "lensmount.ts")
