"""`lensmount bench` on the real app."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

from lensmount_client._cli.main import main

if TYPE_CHECKING:
    from fastapi import FastAPI
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def folder(tmp_path: Path, make_png: MakePng) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        (folder / f"{seed}.png").write_bytes(make_png(seed))
    return folder


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, Any]:
    with pytest.raises(SystemExit) as left:
        main(["bench", *arguments, "--duration", "0.5", "--warmup", "0", "--json"])
    return left.value.code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("pace", [["--connections", "4"], ["--rate", "40"]])
@pytest.mark.parametrize("body", [[], ["--multipart"]])
def test_a_real_server_answers_every_request(
    make_parts: MakeParts,
    make_adapter: MakeAdapter,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    pace: list[str],
    body: list[str],
) -> None:
    with make_parts(token="a-token-of-its-own") as parts, listening(parts.app) as url:
        with httpx.Client(base_url=url, headers={"Authorization": "Bearer a-token-of-its-own"}) as client:
            for seed, name in enumerate(("cells", "tiles")):
                client.put(f"/adapters/{name}", content=make_adapter(seed)).raise_for_status()
            status, document = bench(capsys, str(folder), *pace, *body, "--url", url, "--token", "a-token-of-its-own")
            metrics = client.get("/metrics").text
    assert (status, document["errors"], document["messages"]) == (0, {}, {})
    assert set(document["adapters"]) == {"cells", "tiles"}
    assert document["requests"] > 0
    served = [float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("lensmount_requests_total{")]
    assert sum(served) == document["requests"]


def test_refused_requests_are_counted_by_their_code(
    make_parts: MakeParts, make_adapter: MakeAdapter, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with make_parts(max_queue=1) as parts, listening(parts.app) as url:
        with httpx.Client(base_url=url) as client:
            client.put("/adapters/cells", content=make_adapter(1)).raise_for_status()
        (folder / "broken.png").write_bytes(b"no image at all")
        status, document = bench(capsys, str(folder / "broken.png"), "-c", "1", "--url", url)
        assert (status, set(document["errors"])) == (1, {"unsupported_image_format"})
        status, document = bench(capsys, str(folder / "0.png"), "-c", "16", "--url", url)
        assert (status, set(document["errors"])) == (1, {"queue_full"})
