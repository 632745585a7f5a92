"""lensmount_service.ray on Ray itself: one session with two replicas and a door, as `lensmount serve --ray` starts it.

The session is the command in a process of its own; each answer is compared with one server in this process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from tests.service.conftest import CompareAnswers, MakeAdapter, MakeParts, Until, png
from tests.service.known_machine import KnownMachine

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason='needs Ray: pip install "lensmount[ray]"')

ADAPTERS = 6
NAMES = [f"task{number}" for number in range(ADAPTERS)]
START_S = 170.0
PNG = {"Content-Type": "image/png"}
TITLE = b"ray::ServeReplica:lensmount:Engine"  # of a replica's process


@dataclass
class Session:
    """The door's URL, and a client for it."""

    url: str
    client: httpx.Client

    def replicas(self) -> list[int]:
        """The processes of the replicas that run."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal() and _title(folder).startswith(TITLE):
                found.append(int(folder.name))
        return found

    def upload(self, name: str, data: bytes) -> httpx.Response:
        return self.client.put(f"/adapters/{name}", content=data)

    def predict(self, reference: str, image: bytes) -> httpx.Response:
        return self.client.post(f"/predict?adapter={reference}", content=image, headers=PNG)

    def total(self, metric: str) -> float:
        """The sum over replicas and labels."""
        page = self.client.get("/metrics").text
        families = text_string_to_metric_families(page)
        return sum(sample.value for family in families for sample in family.samples if sample.name == metric)


def _title(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def session(machine: KnownMachine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    state = tmp_path_factory.mktemp("ray-state")
    machine.prepare(state)
    url = f"http://127.0.0.1:{free_port()}"
    options = ["--ray", "--replicas", "2", "--no-zoo", "--threads", "1", "--state", str(state), "--port", url[17:]]
    network = ["--backbone", "test_resnet", "--weights", "random:0", "--executor", "eager", "--precision", "float32"]
    command = [sys.executable, "-m", "lensmount_client", "serve", *options, *network]
    log = (state / "log").open("w")
    with log, subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True) as process:
        try:
            with httpx.Client(base_url=url, timeout=60) as client:
                _wait_until_ready(client, process, state / "log")
                yield Session(url, client)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                assert process.wait(90) == 0, (state / "log").read_text()[-4000:]
            finally:
                process.kill()  # its cluster ends with it


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends and process.poll() is None:
        try:
            if client.get("/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(log.read_text()[-6000:])


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return [png(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def one_box(make_adapter: MakeAdapter, make_shared_parts: MakeParts) -> Iterator[TestClient]:
    """One server with the same adapters."""
    with make_shared_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for number, name in enumerate(NAMES):
            assert client.put(f"/adapters/{name}", content=make_adapter(number)).status_code == 201
        yield client


@pytest.fixture(scope="module")
def filled(session: Session, make_adapter: MakeAdapter) -> Session:
    for number, name in enumerate(NAMES):
        assert session.upload(name, make_adapter(number)).status_code == 201
    return session


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs between two requests to one server: identifiers, times and the tier."""
    kept = {name: value for name, value in answer.items() if name not in ("request_id", "timing", "detail", "tier")}
    return kept | ({"adapter": kept["adapter"] | {"tier": None}} if isinstance(kept.get("adapter"), dict) else {})


def test_every_adapter_answers_as_on_one_server(
    filled: Session, one_box: TestClient, images: list[bytes], same_scores: CompareAnswers
) -> None:
    for name in NAMES:
        for image in images:
            answer = filled.predict(name, image)
            expected = one_box.post(f"/predict?adapter={name}", content=image, headers=PNG)
            assert answer.status_code == 200
            assert same_scores(answer.json(), expected.json())
            assert answer.json()["adapter"]["digest"] == expected.json()["adapter"]["digest"]
            assert answer.headers.keys() == expected.headers.keys() | {"date"}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("POST", "/predict?adapter=nothing", b"x", PNG),
        ("POST", "/predict?adapter=task0", b"no image", PNG),
        ("POST", "/predict?adapter=task0@9", b"x", PNG),
        ("POST", "/predict?adapter=UPPER", b"x", PNG),
        ("POST", "/predict", b"x", PNG),
        ("POST", "/predict?adapter=task0", b"x", {"Content-Encoding": "gzip"}),
        ("PUT", "/adapters/bad", b"no adapter", {}),
        ("GET", "/adapters/nothing", b"", {}),
        ("GET", "/no/such/route", b"", {}),
        ("DELETE", "/predict", b"", {}),
        ("GET", "/adapters", b"", {"Host": "example.com"}),
        ("POST", "/jobs", b"{}", {"Content-Type": "application/json"}),
        ("GET", "/" + "a" * 5000, b"", {}),
        ("POST", "/v2/models/task0/infer", b"{}", {"Content-Type": "application/json"}),
        ("POST", "/hf/nothing", b"x", PNG),
    ],
)
def test_refusals_have_the_codes_and_headers_of_one_server(
    filled: Session, one_box: TestClient, method: str, path: str, body: bytes, headers: dict[str, str]
) -> None:
    answer = filled.client.request(method, path, content=body, headers=headers)
    expected = one_box.request(method, path, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (expected.status_code, expected.json()["code"])
    assert answer.headers.get("content-type") == expected.headers["content-type"]
    assert answer.headers.get("retry-after") == expected.headers.get("retry-after")
    assert "x-request-id" in answer.headers


def test_what_one_replica_stores_all_replicas_answer_within_a_second(
    filled: Session, make_adapter: MakeAdapter, images: list[bytes]
) -> None:
    digests = set()
    for seed in (20, 21, 22):
        stored = filled.upload("fresh", make_adapter(seed)).json()["digest"]
        ends, answered = time.monotonic() + 1.0, 0
        with ThreadPoolExecutor(8) as pool:  # more at once than a home keeps, so that both replicas answer
            while answered < 48:
                for answer in pool.map(lambda image: filled.predict("fresh", image), 6 * images):
                    assert answer.json()["adapter"]["digest"] == stored or time.monotonic() < ends
                    answered += 1
        digests.add(stored)
    assert len(digests) == 3
    assert filled.client.delete("/adapters/fresh").status_code == 204
    assert {filled.predict("fresh", images[0]).status_code for _ in range(10)} == {404}


def test_an_adapter_is_loaded_at_most_once_by_each_replica(filled: Session, images: list[bytes]) -> None:
    def loads() -> float:
        return filled.total("lensmount_adapter_load_seconds_count")

    before = loads()
    assert before >= ADAPTERS
    with ThreadPoolExecutor(16) as pool:
        requests = [(NAMES[number % ADAPTERS], images[number % 4]) for number in range(240)]
        answers = list(pool.map(lambda request: filled.predict(*request), requests))
    assert {answer.status_code for answer in answers} == {200}
    assert loads() - before <= ADAPTERS * 2


def test_the_metrics_of_both_replicas_are_one_page(filled: Session) -> None:
    page = filled.client.get("/metrics").text
    families = list(text_string_to_metric_families(page))
    replicas = {sample.labels["replica"] for family in families for sample in family.samples}
    assert len(replicas) == 2


def test_events_of_a_job_and_a_page_of_the_browser_pass_the_door(filled: Session) -> None:
    assert filled.client.get("/").headers["content-type"].startswith("text/html")
    assert filled.client.get("/openapi.json").json()["info"]["title"] == "Lensmount"
    assert filled.client.get("/jobs").json()["jobs"] == []


def test_a_large_adapter_file_arrives_complete(filled: Session, make_adapter: MakeAdapter) -> None:
    data = make_adapter(0)
    assert filled.client.get(f"/adapters/{NAMES[0]}/file").content == data


def test_a_kill_of_a_replica_loses_no_request_and_no_digest(
    filled: Session, one_box: TestClient, images: list[bytes], same_scores: CompareAnswers, until: Until
) -> None:
    expected = [
        [one_box.post(f"/predict?adapter={name}", content=image, headers=PNG).json() for image in images]
        for name in NAMES
    ]
    before = set(filled.replicas())
    assert len(before) == 2
    victim = min(before)
    answered = threading.Semaphore(0)

    def ask(number: int) -> tuple[int, httpx.Response, float]:
        started = time.monotonic()
        answer = filled.predict(NAMES[number % ADAPTERS], images[number % 4])
        answered.release()
        return number, answer, time.monotonic() - started

    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(ask, number) for number in range(400)]
        for _ in range(100):
            answered.acquire()
        os.kill(victim, signal.SIGKILL)
        answers = [future.result() for future in asked]
    assert [answer.text for _, answer, _ in answers if answer.status_code != 200] == []
    for number, answer, _ in answers:
        right = expected[number % ADAPTERS][number % 4]
        assert answer.json()["adapter"]["digest"] == right["adapter"]["digest"]
        assert same_scores(answer.json(), right)
    assert max(seconds for *_, seconds in answers) < 30
    until(lambda: len(set(filled.replicas()) - {victim}) == 2, 90)


ARGUMENTS = """
from lensmount_service.errors import RequestInvalid
from lensmount_service.ray.application import Scale, autoscaling, built

scale = Scale.read({"replicas": "2", "max_replicas": "8", "pixels_each": "1e7"})
assert scale == Scale(2, 8, pixels_each=1e7)
assert (autoscaling(scale).min_replicas, autoscaling(scale).max_replicas) == (2, 8)
for wrong in ({"replica": "2"}, {"replicas": "two"}, {"replicas": "0"}, {"replicas": "3", "max_replicas": "2"}):
    try:
        Scale.read(wrong)
    except RequestInvalid as error:
        assert "expected" in str(error)
    else:
        raise AssertionError(wrong)
assert type(built({"replicas": "2", "max_replicas": "3"})).__name__ == "Application"
"""


def test_the_arguments_of_serve_run_are_read_and_wrong_ones_are_named() -> None:
    """In a process of its own, because warnings are errors here, and Ray's imports give some."""
    subprocess.run([sys.executable, "-c", ARGUMENTS], check=True)
