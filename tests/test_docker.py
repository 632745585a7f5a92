"""The Docker image is built from files that exist, by commands that work, and runs without root."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lensmount_service.tracing.opening import wanted

ROOT = Path(__file__).parent.parent
COMPOSE_FILES = ["docker-compose.yml", "docker-compose.gpu.yml"]
SHARED = {"LENSMOUNT_TOKEN": "secret", "POSTGRES_PASSWORD": "word", "STORE_SECRET": "key"}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, arguments) in order, with continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def arguments_of(instruction: str) -> list[str]:
    return [rest for word, rest in instructions() if word == instruction]


def copy(arguments: str, folder: Path) -> None:
    *sources, target = shlex.split(arguments)
    for source in sources:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, folder / target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, folder / target)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh virtual environment after the COPY and install steps of the Dockerfile."""
    source, environment = tmp_path_factory.mktemp("src"), tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    settings = {
        **os.environ,
        "VIRTUAL_ENV": str(environment),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # where `make install` put uv
        "TORCH": os.environ.get("TORCH", "default"),
    }
    for word, arguments in instructions():
        if word == "COPY":
            copy(arguments, source)
        elif word == "RUN" and arguments.startswith("uv pip install"):
            done = subprocess.run(
                ["/bin/sh", "-c", arguments],
                cwd=source,
                env=settings,
                capture_output=True,
                text=True,
                timeout=600,
            )
            assert done.returncode == 0, done.stderr
    yield environment
    shutil.rmtree(environment)  # it takes gigabytes, and pytest would keep the last three


def run_in(environment: Path, *command: str) -> str:
    """Standard output of a command of that environment, run in a folder from which the checkout cannot be imported."""
    program = [str(environment / "bin" / command[0]), *command[1:]]
    done = subprocess.run(program, cwd=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_image_installs_dependencies_first_and_then_the_project() -> None:
    installs = [command for command in arguments_of("RUN") if command.startswith("uv pip install")]
    assert len(installs) == 2
    assert all("-c constraints.txt" in command for command in installs)
    assert "-r pyproject.toml" in installs[0]
    assert '".[serve,train,openvino,llvm,otel,postgres,s3,grpc]"' in installs[1]


def test_what_the_image_installs_runs_the_command(installed: Path) -> None:
    code = "import importlib.metadata as metadata; print(metadata.version('lensmount'))"
    assert run_in(installed, "python", "-c", code) in run_in(installed, "lensmount", "--version")


@pytest.mark.parametrize("package", ["lensmount_adapters", "lensmount_client", "lensmount_service", "torch"])
def test_what_the_image_installs_imports_from_its_own_environment(installed: Path, package: str) -> None:
    file = run_in(installed, "python", "-c", f"import {package}; print({package}.__file__)")
    assert Path(file).is_relative_to(installed)


def test_what_the_image_installs_holds_the_zoo_adapters(installed: Path) -> None:
    code = "import lensmount_adapters; print(lensmount_adapters.__path__[0])"
    zoo = Path(run_in(installed, "python", "-c", code)) / "zoo"
    shipped = {path.name for path in (ROOT / "adapters" / "zoo").glob("*.safetensors")}
    assert shipped
    assert {path.name for path in zoo.glob("*.safetensors")} == shipped


def test_every_source_the_image_copies_exists_and_passes_dockerignore() -> None:
    sources = [source for arguments in arguments_of("COPY") for source in shlex.split(arguments)[:-1]]
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert set(sources) == let_through


def test_the_image_runs_as_a_user_that_is_not_root_and_owns_the_state() -> None:
    user = arguments_of("USER")[-1]
    assert user not in {"root", "0"}
    assert any(f"useradd --create-home {user}" in run and f"-o {user}" in run for run in arguments_of("RUN"))
    assert arguments_of("VOLUME") == ["/state"]


def test_the_image_asks_its_own_server_whether_it_is_ready() -> None:
    (check,) = arguments_of("HEALTHCHECK")
    interpreter, flag, code = json.loads(check.partition("CMD ")[2])
    assert (interpreter, flag) == ("python", "-c")
    assert "/health/ready" in compile(code, "HEALTHCHECK", "exec").co_consts
    assert arguments_of("EXPOSE") == ["8000"]


def test_the_image_starts_the_server_and_stops_it_by_sigterm() -> None:
    assert json.loads(arguments_of("ENTRYPOINT")[0]) == ["lensmount"]
    assert json.loads(arguments_of("CMD")[0]) == ["serve", "--host", "0.0.0.0"]
    assert arguments_of("STOPSIGNAL") == ["SIGTERM"]


def service(file: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / file).read_text())["services"]["lensmount"]
    return found


def test_compose_needs_a_token_and_publishes_on_loopback_only() -> None:
    settings = service("docker-compose.yml")
    assert settings["environment"]["LENSMOUNT_TOKEN"].startswith("${LENSMOUNT_TOKEN:?")
    assert settings["ports"] == ["127.0.0.1:8000:8000"]


def test_compose_locks_the_container_down_to_its_state() -> None:
    settings = service("docker-compose.yml")
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["volumes"] == ["state:/state"]
    assert settings["stop_grace_period"] == "30s"


def test_compose_reserves_a_gpu_only_in_its_override_file() -> None:
    assert "deploy" not in service("docker-compose.yml")
    (device,) = service("docker-compose.gpu.yml")["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def compose_config(files: list[str], profile: str = "", **given: str) -> subprocess.CompletedProcess[str]:
    """What docker-compose makes of the files with these variables alone."""
    binary = shutil.which("docker-compose")
    if binary is None:
        pytest.skip("docker-compose is not installed (apt-get install docker-compose)")
    environment = {name: value for name, value in os.environ.items() if name not in SHARED}
    command = [binary, *(part for file in files for part in ("-f", file))]
    command += [*(("--profile", profile) if profile else ()), "config"]
    return subprocess.run(command, cwd=ROOT, env=environment | given, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("files", [COMPOSE_FILES[:1], COMPOSE_FILES], ids=["cpu", "gpu"])
def test_docker_compose_accepts_the_files(files: list[str]) -> None:
    done = compose_config(files, LENSMOUNT_TOKEN="secret")
    assert done.returncode == 0, done.stderr
    merged = yaml.safe_load(done.stdout)["services"]["lensmount"]
    assert merged["environment"]["LENSMOUNT_TOKEN"] == "secret"
    assert ("deploy" in merged) == (len(files) == 2)


def test_the_profile_monitoring_mounts_files_that_exist_and_publishes_on_loopback_only() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["monitoring"]
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])
        mounted = [volume.partition(":")[0] for volume in services[name]["volumes"] if volume.startswith("./")]
        assert mounted
        assert [path for path in mounted if not (ROOT / path).is_file()] == []
    assert "profiles" not in services["lensmount"]


def test_the_profile_monitoring_takes_traces_that_the_server_is_told_to_send() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert services["jaeger"]["profiles"] == ["monitoring"]
    assert services["jaeger"]["ports"] == ["127.0.0.1:16686:16686"]  # what sends traces is in the same network
    assert services["lensmount"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "${OTEL_EXPORTER_OTLP_ENDPOINT:-}"
    assert not wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": ""})
    assert wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://jaeger:4318"})


def test_docker_compose_refuses_to_start_without_a_token() -> None:
    done = compose_config(COMPOSE_FILES[:1])
    assert done.returncode != 0
    assert "LENSMOUNT_TOKEN" in done.stderr


def test_two_servers_with_one_database_and_object_store_have_the_same_settings() -> None:
    done = compose_config(["docker-compose.yml", "docker-compose.shared.yml"], **SHARED)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    first, second = services["lensmount"], services["lensmount-2"]
    assert first["environment"] == second["environment"]
    assert first["environment"]["LENSMOUNT_DATABASE"] == "postgresql://lensmount:word@postgres/lensmount"
    assert first["environment"]["LENSMOUNT_BLOBS"].startswith("s3://lensmount/")
    assert first["environment"]["AWS_SECRET_ACCESS_KEY"] == services["store"]["environment"]["ROOT_SECRET_KEY"] == "key"
    assert first["volumes"] != second["volumes"]  # each has its own folder
    same = ("image", "read_only", "cap_drop", "security_opt", "stop_grace_period", "tmpfs", "depends_on", "restart")
    assert {name: first.get(name) for name in same} == {name: second.get(name) for name in same}
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert all(str(port).startswith("127.0.0.1:") for port in published)
    assert all(services[name]["cap_drop"] == ["ALL"] for name in ("postgres", "store"))


def test_the_shared_state_can_be_combined_with_a_gpu_and_monitoring() -> None:
    done = compose_config([*COMPOSE_FILES, "docker-compose.shared.yml"], "monitoring", **SHARED)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert {"lensmount", "lensmount-2", "postgres", "store", "prometheus", "grafana", "jaeger"} <= set(services)
    assert "deploy" in services["lensmount"]


@pytest.mark.parametrize("missing", ["POSTGRES_PASSWORD", "STORE_SECRET"])
def test_the_shared_state_needs_its_secrets(missing: str) -> None:
    given = {name: value for name, value in SHARED.items() if name != missing}
    done = compose_config(["docker-compose.yml", "docker-compose.shared.yml"], **given)
    assert done.returncode != 0
    assert missing in done.stderr
