"""The load tool: its schedule, its connections, its statistics, and the command on a small server."""

from __future__ import annotations

import email
import itertools
import json
import math
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lensmount_client import InvalidInput, LensmountError, ServerUnreachable, TimedOut, UnexpectedResponse
from lensmount_client._bench.connection import IDLE_S, Body, Connection, Origin
from lensmount_client._bench.load import Load, Measured, Mix, Sample, Schedule, Target
from lensmount_client._bench.summary import Figures, Latency, Summary, percentile
from lensmount_client._cli.bench import summary_table
from lensmount_client._cli.terminal import print_table

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 2\r\n\r\n{}"
ASK = [Target("malaria", "/predict?adapter=malaria"), Target("smoking", "/predict?adapter=smoking")]
IMAGE = [Body.raw(b"image")]


class ScriptedServer:
    """Answers each request with what `answer(its number)` gives, byte for byte; None hangs up."""

    def __init__(self) -> None:
        self.answer: Callable[[int], bytes | None] = lambda number: OK
        self.requests: list[bytes] = []
        self.connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=[connection]))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while head := b"".join(itertools.takewhile(bytes.strip, stream)):
                length = int(re.search(rb"Content-Length: (\d+)", head)[1])  # type: ignore[index]  # a test would fail
                self.requests.append(head + b"\r\n" + stream.read(length))
                answer = self.answer(len(self.requests) - 1)
                if answer is None:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                connection.sendall(answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """Clients must be closed before the test ends."""
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def connection(scripted: ScriptedServer) -> Iterator[Connection]:
    connection = Connection(Origin.of(scripted.url, token="secret"), timeout_s=0.5)
    yield connection
    connection.close()


def post(connection: Connection, body: Body = IMAGE[0]) -> Any:
    return connection.post(connection._origin.head("/predict?adapter=malaria"), body)


# Statistics


@pytest.mark.parametrize("count", [1, 2, 3, 10, 99, 100, 101, 1000])
def test_percentiles_are_numpys(count: int) -> None:
    numpy = pytest.importorskip("numpy")
    seconds = [random.Random(count + n).lognormvariate(-4, 1) for n in range(count)]
    expected = [1e3 * numpy.percentile(seconds, share) for share in (50, 90, 95, 99, 100)]
    latency = Latency.of(seconds)
    found = [latency.p50, latency.p90, latency.p95, latency.p99, latency.max]
    assert found == pytest.approx(expected, rel=1e-12)
    for share in (0.0, 0.001, 0.25, 1 / 3, 0.999):
        assert percentile(sorted(seconds), share) == pytest.approx(numpy.percentile(seconds, 100 * share), rel=1e-12)


def test_the_warm_up_does_not_count_and_the_rate_is_of_what_was_answered_in_time() -> None:
    load = Load("http://x", ASK, IMAGE, duration_s=10, warmup_s=5)
    full, late = TimedOut("nothing for 1 s"), ServerUnreachable("broke")
    samples = [
        Sample(0, 104.0, 104.5, None),  # of the warm-up
        Sample(0, 104.1, 104.2, late),  # likewise
        Sample(0, 104.9, 105.1, None),  # began in the warm-up: counts for the rate alone
        Sample(0, 105.0, 105.3, None),
        Sample(1, 106.0, 106.1, None),
        Sample(1, 107.0, 108.0, full),
        Sample(1, 107.5, 108.0, full),
        Sample(0, 114.9, 119.9, None),  # answered late: counts for the latency, not for the rate
    ]
    summary = Summary.of(Measured(load, samples, begin=105.0, busy=0.01))
    assert (summary.all.requests, summary.all.errors, summary.all.failed) == (5, {"timed_out": 2}, 2)
    assert summary.all.per_s == pytest.approx(0.3)
    assert summary.all.latency is not None
    assert (summary.all.latency.p50, summary.all.latency.max) == pytest.approx((300, 5000))
    assert {name: figures.requests for name, figures in summary.targets.items()} == {"malaria": 2, "smoking": 3}
    assert summary.targets["malaria"].failed == 0
    assert summary.messages == {"timed_out": "nothing for 1 s"}


def test_a_run_without_answers_has_no_latency() -> None:
    samples = [Sample(0, 1.0, 2.0, TimedOut("late"))]
    figures = Summary.of(Measured(Load("http://x", ASK, IMAGE), samples, begin=0.0, busy=0.0)).all
    assert (figures.latency, figures.per_s, figures.errors) == (None, 0, {"timed_out": 1})


# The schedule


def arrivals(load: Load, clock: Callable[[], float] = lambda: 0.0) -> list[Any]:
    return list(iter(Schedule(load, 0.0, clock).next, None))


@pytest.mark.parametrize("mix", Mix)
def test_a_mix_asks_targets_as_often_as_it_says(mix: Mix) -> None:
    targets = [Target(str(number), "/") for number in range(5)]
    drawn = arrivals(Load("http://x", targets, IMAGE, rate=1000, duration_s=20, warmup_s=0, mix=mix))
    expected = {
        Mix.zipf: [60 / 137, 30 / 137, 20 / 137, 15 / 137, 12 / 137],
        Mix.uniform: [1 / 5] * 5,
        Mix.one: [1.0, 0, 0, 0, 0],
    }[mix]
    found = Counter(arrival.target for arrival in drawn)
    for number, share in enumerate(expected):
        sigma = math.sqrt(share * (1 - share) / len(drawn))
        assert abs(found[number] / len(drawn) - share) <= 4 * sigma


def test_arrivals_of_an_open_loop_are_poisson_and_know_no_clock() -> None:
    numpy = pytest.importorskip("numpy")
    load = Load("http://x", ASK, IMAGE, rate=500, duration_s=38, warmup_s=2, seed=3)
    dues = [arrival.due for arrival in arrivals(load)]
    gaps = numpy.diff([0.0, *dues])
    assert dues[-1] < 40
    assert len(dues) == pytest.approx(20_000, abs=4 * math.sqrt(20_000))
    assert gaps.mean() == pytest.approx(1 / 500, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 500, rel=0.05)  # of an exponential distribution: its mean
    assert (gaps > 1 / 500).mean() == pytest.approx(math.exp(-1), abs=0.02)


def test_the_same_seed_draws_the_same_sequence_and_images_take_turns() -> None:
    bodies = [Body.raw(b"%d" % number) for number in range(3)]
    first, again, other = (
        arrivals(Load("http://x", ASK, bodies, rate=50, duration_s=2, warmup_s=0, seed=seed)) for seed in (7, 7, 8)
    )
    assert first == again != other
    assert [arrival.body for arrival in first[:7]] == [0, 1, 2, 0, 1, 2, 0]


def test_a_closed_loop_starts_now_and_ends_with_the_time() -> None:
    ticks = itertools.count()
    drawn = arrivals(Load("http://x", ASK, IMAGE, duration_s=5, warmup_s=2), clock=lambda: float(next(ticks)))
    assert [arrival.due for arrival in drawn] == [0, 1, 2, 3, 4, 5, 6]


def test_latencies_of_an_open_loop_count_from_when_a_request_should_have_started(scripted: ScriptedServer) -> None:
    """The server needs 20 ms for each, half as fast as they arrive, over one connection: the queue must show."""
    service_s = 0.02

    def slow(number: int) -> bytes:
        time.sleep(service_s)
        return OK

    scripted.answer = slow
    load = Load(scripted.url, ASK[:1], IMAGE, connections=1, rate=2 / service_s, duration_s=0.6, warmup_s=0, seed=1)
    samples = load.run().samples
    draw, due, free, least = random.Random(1), 0.0, 0.0, []
    for _ in samples:  # Lindley's recursion: a request starts when it is due and the one before has ended
        due += draw.expovariate(2 / service_s)
        draw.random()  # what is asked
        free = max(free, due) + service_s
        least.append(free - due)
    assert len(samples) > 30
    assert all(sample.end - sample.start >= bound for sample, bound in zip(samples, least, strict=True))
    assert least[-1] > 8 * service_s


def test_a_closed_loop_keeps_all_connections_busy_and_opens_no_more(scripted: ScriptedServer) -> None:
    together = threading.Barrier(4)

    def wait_for_the_others(number: int) -> bytes:
        if number < 4:
            together.wait(timeout=10)
        return OK

    scripted.answer = wait_for_the_others
    measured = Load(scripted.url, ASK, IMAGE, connections=4, duration_s=0.2, warmup_s=0).run()
    assert len(scripted.connections) == 4
    assert len(scripted.requests) == len(measured.samples) >= 4
    assert not any(sample.error for sample in measured.samples)


def test_a_load_that_cannot_be_meant_is_refused() -> None:
    for wrong in ({"connections": 0}, {"rate": 0.0}, {"duration_s": 0.0}, {"warmup_s": -1.0}, {"targets": []}):
        with pytest.raises(InvalidInput, match="expected"):
            Load(**({"base_url": "http://x", "targets": ASK, "bodies": IMAGE} | wrong)).run()  # type: ignore[arg-type]


# Connections


def test_a_connection_is_kept_and_says_who_asks(scripted: ScriptedServer, connection: Connection) -> None:
    assert [post(connection).status for _ in range(3)] == [200, 200, 200]
    assert len(scripted.connections) == 1
    line, *headers = scripted.requests[0].partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert line == "POST /predict?adapter=malaria HTTP/1.1"
    assert {"Authorization: Bearer secret", f"Host: {scripted.url[7:]}"} <= set(headers)
    assert scripted.requests[0].endswith(b"\r\n\r\nimage")


def test_a_base_path_and_the_ports_of_the_schemes() -> None:
    assert Origin.of("http://[::1]/models/", None).head("/x").startswith(b"POST /models/x HTTP/1.1\r\nHost: [::1]\r\n")
    assert [Origin.of(f"{scheme}://host", None).port for scheme in ("http", "https")] == [80, 443]


def test_a_multipart_body_is_a_form_with_one_file(scripted: ScriptedServer, connection: Connection) -> None:
    image = b"\x00\r\n--\xff" * 9
    post(connection, Body.multipart(image, 'a"b\r\n.jpg'))
    message = email.message_from_bytes(scripted.requests[0].partition(b"\r\n")[2])
    (part,) = message.get_payload()  # type: ignore[misc]  # a list, of a multipart message
    assert message.get_content_type() == "multipart/form-data"
    assert (part.get_param("name", header="content-disposition"), part.get_filename()) == ("file", "a_b__.jpg")  # type: ignore[union-attr]
    assert part.get_payload(decode=True) == image  # type: ignore[union-attr]


def test_answers_in_chunks_and_pieces_are_read_whole(scripted: ScriptedServer, connection: Connection) -> None:
    head = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\nX-Request-Id: A1\r\n\r\n"
    chunked = head + b"5\r\n{'a':\r\n2;x=y\r\n1}\r\n0\r\n\r\n"

    def in_pieces(number: int) -> bytes:
        for byte in chunked[:-1]:
            scripted.connections[0].send(bytes([byte]))
        return chunked[-1:]

    scripted.answer = in_pieces
    for _ in range(2):
        answer = post(connection)
        assert (answer.status, answer.body, answer.request_id) == (404, b"{'a':1}", "A1")
    assert len(scripted.connections) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, ServerUnreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", TimedOut),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", UnexpectedResponse),
        (b"SSH-2.0-OpenSSH\r\n\r\n", UnexpectedResponse),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n", UnexpectedResponse),
    ],
)
def test_what_goes_wrong_is_the_clients_own_error_and_the_next_request_is_sent_anew(
    scripted: ScriptedServer, connection: Connection, answer: bytes | None, error: type[LensmountError]
) -> None:
    scripted.answer = lambda number: OK if number else answer
    with pytest.raises(error):
        post(connection)
    assert post(connection).status == 200
    assert len(scripted.connections) == 2


def test_a_server_that_closes_is_asked_over_a_new_connection(scripted: ScriptedServer, connection: Connection) -> None:
    scripted.answer = lambda number: OK if number else OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    assert post(connection).status == 200
    assert post(connection).status == 200
    scripted.connections[-1].shutdown(socket.SHUT_RDWR)  # as after its keep-alive time
    connection._used_at -= 2 * IDLE_S
    assert post(connection).status == 200
    assert len(scripted.connections) == 3


def test_nobody_there_is_an_error_of_each_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    samples = Load(url, ASK, IMAGE, connections=1, rate=100, duration_s=0.1, warmup_s=0).run().samples
    assert {sample.error.code for sample in samples if sample.error} == {"server_unreachable"}
    assert all(sample.error for sample in samples)


# The command

CLI = [sys.executable, "-c", "from lensmount_client._cli.main import main; main()"]
QUICK = ("--duration", "0.3", "--warmup", "0")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"%d" % number)
    return tmp_path


def test_the_table_has_a_row_for_each_adapter_and_one_for_all(server: Any, lensmount: Any, images: Path) -> None:
    code, out, err = lensmount("bench", str(images), *QUICK, "--url", server.url)
    assert code == 0
    for word in ("malaria", "smoking", "all", "per s", "p50", "p90", "p95", "p99", "max"):
        assert word in out
    assert err == "8 connections, zipf over 2 adapters, 3 images, 0.3 s after 0 s of warm-up\n"
    assert set(server.images) == {b"0", b"1", b"2"}


def test_json_is_all_there_is_on_stdout(server: Any, lensmount: Any, images: Path) -> None:
    arguments = ("-a", "smoking,malaria:prod", "--mix", "uniform", "--rate", "100", "--json", "--seed", "5")
    code, out, _ = lensmount("bench", str(images), *arguments, *QUICK, "--url", server.url)
    document = json.loads(out)
    assert code == 0
    assert (document["loop"], document["rate"], document["connections"]) == ("open", 100, 256)
    assert set(document["adapters"]) == {"smoking", "malaria:prod"}
    assert document["requests"] == sum(one["requests"] for one in document["adapters"].values()) == len(server.images)
    assert document["errors"] == {}
    assert 0 < document["latency_ms"]["p50"] <= document["latency_ms"]["max"]


def test_figures_stay_whole_in_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    worst = Figures(1_000_000, {"queue_full": 999_999}, 12_345.6, Latency(10_000, 20_000, 30_000, 59_999, 60_000))
    names = [f"adapter-with-name-{number}" for number in range(3)]
    print_table(summary_table(Summary(worst, dict.fromkeys(names, worst), {}, 0.1)))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("1,000,000" in line and "12,346" in line and "59,999" in line for line in lines) == 4


def test_one_asks_the_first_adapter_alone(server: Any, lensmount: Any, images: Path) -> None:
    arguments = ("--mix", "one", "--connections", "2", "--json", "--url", server.url)
    code, out, err = lensmount("bench", str(images), *arguments, *QUICK)
    assert code == 0
    assert set(json.loads(out)["adapters"]) == {"malaria"}
    assert err.startswith("2 connections, malaria, 3 images")


def test_failures_are_counted_by_code_shown_once_and_are_exit_status_1(
    server: Any, lensmount: Any, images: Path
) -> None:
    (images / "1.png").write_bytes(b"bad")
    code, out, err = lensmount("bench", str(images), "-a", "malaria", *QUICK, "--json", "--url", server.url)
    document = json.loads(out)
    assert code == 1
    assert set(document["errors"]) == {"image_truncated"}
    assert document["errors"]["image_truncated"] == pytest.approx(document["requests"] / 3, abs=1)
    failed = document["errors"]["image_truncated"]
    assert err.splitlines()[1:] == [f"{failed} image_truncated: the image ends after 3 bytes"]

    code, out, err = lensmount("bench", str(images), "-a", "malaria,none", *QUICK, "--url", server.url)
    assert code == 1
    assert "adapter_not_found: no adapter is called none" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png"], "no such file"),
        (["{images}", "-a", "Malaria"], "expected name"),
        (["{images}", "--mix", "gauss"], "--mix"),
        (["{images}", "--rate", "0"], "--rate"),
        (["{images}", "--connections", "0"], "--connections"),
        (["{images}", "--url", "ftp://nope"], "base_url"),
        ([], "IMAGES"),
    ],
)
def test_wrong_usage_is_exit_status_2_and_sends_nothing(
    server: Any, lensmount: Any, images: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENSMOUNT_URL", server.url)
    code, out, err = lensmount("bench", *(argument.format(images=images) for argument in arguments))
    assert (code, out, server.images) == (2, "", [])
    assert message in err


def test_a_server_that_is_not_there_is_said_once_before_the_load(lensmount: Any, images: Path) -> None:
    code, out, err = lensmount("bench", str(images), "-a", "malaria", "--url", "http://127.0.0.1:1")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "start one with `lensmount serve`" in err


def test_a_server_without_adapters_has_nothing_to_measure(server: Any, lensmount: Any, images: Path) -> None:
    server.files.clear()
    code, _, err = lensmount("bench", str(images), "--url", server.url)
    assert code == 2
    assert "no adapter that is ready" in err


def hear_ctrl_c() -> None:
    """A test run in the background ignores SIGINT, and its children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_ends_at_once_also_while_answers_are_missing(server: Any, images: Path) -> None:
    reached, release = threading.Event(), threading.Event()

    def hold(image: bytes) -> None:
        reached.set()
        release.wait(timeout=60)

    server.gate = hold
    command = ["bench", str(images), "--duration", "60", "--url", server.url]
    with subprocess.Popen([*CLI, *command], stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c) as process:
        try:
            assert reached.wait(timeout=30)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
            release.set()
    assert process.returncode == 130
    assert "Traceback" not in err


def test_nothing_measured_is_no_success(server: Any, lensmount: Any, images: Path) -> None:
    code, out, err = lensmount("bench", str(images), "--rate", "0.001", *QUICK, "--url", server.url)
    assert code == 1
    assert "no request started in the measured time" in err
    assert "all" in out
