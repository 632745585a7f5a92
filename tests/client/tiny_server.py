"""A small server that keeps the wire contract, in memory and behind a real socket."""

from __future__ import annotations

import io
import json
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.client.tiny_pools import TinyPools
from tests.client.tiny_rollouts import TinyRollouts
from tests.client.tiny_tokens import WHOAMI, TinyTokens
from tests.client.tiny_training import HangUp, TinyTraining
from tests.client.wire import FINGERPRINT, MANIFEST, STATS, digest_of, problem, stored_zip


class TinyServer:
    """Keeps pushed files in memory and answers with the image's own bytes as the label.

    Images that begin with b"bad" are refused; `gate` may hold a request back.
    """

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, list[bytes]] = {"malaria": [b"malaria file"], "smoking": [b"smoking file"]}
        self.aliases: dict[str, dict[str, int]] = {"malaria": {"prod": 1}, "smoking": {}}
        self.protected: dict[tuple[str, str], bool | None] = {}
        self.shared: dict[tuple[str, str], str] = {}  # kind and public name to own name
        self.alias_trust: dict[str, dict[str, Any]] = {"malaria": {}, "smoking": {}}
        self.promises: dict[str, Any] = {}  # by adapter
        self.signatures: list[str | None] = []  # of fetched adapters
        self.images: list[bytes] = []
        self.patients: list[str | None] = []  # the header X-Patient of each prediction
        self.gate: Callable[[bytes], object] = lambda image: None
        self.training = TinyTraining()
        self.pools = TinyPools()
        self.deleted: dict[str, list[bytes]] = {}
        self.tokens = TinyTokens()
        self.rollouts = TinyRollouts()

    def answer(self, method: str, target: str, body: bytes, headers: Any) -> tuple[int, Any, dict[str, str]]:
        """Status, document or bytes, further headers."""
        url = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        match method, url.path.strip("/").split("/"):
            case "POST", ["predict"]:
                self.patients.append(headers.get("X-Patient"))
                return self.predict(query, body)
            case "POST", ["explain"]:
                return self.explained(query, body)
            case "POST", ["feedback"]:
                return self.pools.corrected(query, body)
            case "GET", ["pools"]:
                return self.pools.summaries()
            case _, ["datasets", name, ("unlabelled" | "next" | "labels" | "versions") as part, *_]:
                return self.pools.answer(method, name, part, query, body)
            case "GET", ["adapters"] if "deleted" in query:
                times = {"deleted_at": "2026-01-02T03:04:05Z", "kept_until": "2026-01-09T03:04:05Z"}
                gone = [self.deleted_identity(name) | times for name in self.deleted]
                return 200, {"deleted": gone}, {}
            case "POST", ["adapters", name, *_, "undelete"] if name in self.deleted:
                self.files[name] = self.deleted.pop(name)
                return 200, {}, {}
            case "GET", ["adapters"] if query.get("public") == "true":
                shown = [self.info(name) | {"name": public} for (kind, public), name in self.shared.items()]
                return 200, {"adapters": shown}, {}
            case "GET", ["adapters"]:
                return 200, {"adapters": [self.info(name) for name in self.files]}, {}
            case (("PUT" | "DELETE"), [kind, name, "shared"]):
                return self.share(method, kind, name, query.get("as", name))
            case "PUT", ["adapters", name]:
                known = self.files.setdefault(name, [])
                self.aliases.setdefault(name, {})
                self.alias_trust.setdefault(name, {})
                status = 200 if body in known else 201
                if status == 201:
                    known.append(body)
                return status, self.identity(name, known.index(body) + 1), {}
            case "POST", ["adapters", name, "fetch"]:
                asked = json.loads(body)
                content = asked["url"].encode()  # the file at each URL
                if digest_of(content) != asked["digest"]:
                    return problem(422, "digest_mismatch", "another SHA-256")
                self.signatures.append(headers.get("Lensmount-Signature"))
                self.files.setdefault(name, []).append(content)
                self.aliases.setdefault(name, {})
                return 201, self.identity(name, len(self.files[name])), {}
            case "POST", ["adapters", name, "import"]:
                return self.imported(name, query, body)
            case "PUT", ["adapters", name, "aliases", alias]:
                return 200, self.pointed(name, alias, json.loads(body), headers.get("If-Match")), {}
            case "GET", ["adapters", name, "aliases", alias]:
                return self.alias(name, alias)
            case "DELETE", ["adapters", name, "aliases", alias]:
                del self.aliases[name][alias]
                return 204, b"", {}
            case _, ["adapters", name, *_] if name not in self.files:
                return problem(404, "adapter_not_found", f"no adapter is called {name}")
            case "GET", ["adapters", name]:
                return 200, self.info(name) | {"manifest": MANIFEST}, {}
            case "GET", ["adapters", name, "versions", version]:
                content = self.files[name][int(version) - 1]
                document = {"size_bytes": len(content), "created_at": "2026-01-02T03:04:05Z", "manifest": MANIFEST}
                return 200, self.identity(name, int(version)) | document, {}
            case _, ["adapters", name, "rollouts", *where]:
                return self.rollouts.answer(method, name, where, self.aliases[name])
            case "GET", ["adapters", name, "stats"]:
                return 200, {"name": name, **STATS}, {}
            case "GET", ["adapters", name, "file"]:
                content = self.files[name][int(query.get("version", len(self.files[name]))) - 1]
                return 200, content, {"ETag": f'"{digest_of(content)}"'}
            case "GET", ["adapters", name, "export"]:
                if query["to"] == "lycoris":
                    return problem(422, "export_not_possible", "lycoris: found a batch norm. Fix: export to timm")
                content = stored_zip(**{"lensmount.json": '{"notes": ["mind the gap"]}', "model.bin": query["to"]})
                return 200, content, {"ETag": f'"{digest_of(content)}"'}
            case "DELETE", ["adapters", name, *_]:
                removed = self.files.pop(name)
                if "purge" not in query:
                    self.deleted[name] = removed
                return 204, b"", {}
            case "GET", ["health", "ready"]:
                return 200, {"status": "ok"}, {}
            case "GET", ["whoami"]:
                return 200, WHOAMI, {}
            case "GET", ["audit"]:
                return self.tokens.audit(query)
            case _, ["tokens", *where]:
                return self.tokens.answer(method, where, query, body)
            case "GET", ["limits"]:
                return 200, {"max_image_bytes": 1000}, {}
            case "GET", ["integrity"]:
                return 200, {"ok": True, "tensors": 3}, {}
            case _, ["datasets", *where]:
                return self.training.datasets(method, where, query, body, headers)
            case _, ["jobs", *where]:
                return self.training.jobs(method, where, query, body, headers)
        return problem(404, "not_found", "nothing here")

    def deleted_identity(self, name: str) -> dict[str, Any]:
        (content,) = self.deleted[name]
        return {"name": name, "version": 1, "digest": digest_of(content), "size_bytes": len(content)}

    def share(self, method: str, kind: str, name: str, public_name: str) -> tuple[int, Any, dict[str, str]]:
        if method == "DELETE":
            self.shared = {public: own for public, own in self.shared.items() if own != name}
            return 204, b"", {}
        if self.shared.setdefault((kind, f"public/{public_name}"), name) != name:
            return problem(409, "public_name_taken", "found the public name in use")
        return 200, {"name": name, "public_name": f"public/{public_name}"}, {}

    def predict(self, query: dict[str, str], image: bytes) -> tuple[int, Any, dict[str, str]]:
        self.images.append(image)
        self.gate(image)
        names = [re.split("[@:]", reference)[0] for reference in query["adapter"].split(",")]
        for name in names:
            if name not in self.files:
                return problem(404, "adapter_not_found", f"no adapter is called {name}")
        if image.startswith(b"bad"):
            return problem(422, "image_truncated", "the image ends after 3 bytes")
        results = [
            self.judged(self.prediction(name, image.decode(errors="replace")[:20]), image, query) for name in names
        ]
        if len(results) == 1:
            return 200, results[0], {}
        listed = [result | {"image": {"index": 0, "name": None}} for result in results]
        return 200, {"results": listed, "request_id": "r-1"}, {}

    def explained(self, query: dict[str, str], image: bytes) -> tuple[int, Any, dict[str, str]]:
        self.images.append(image)
        name = query["adapter"]
        if name not in self.files:
            return problem(404, "adapter_not_found", f"no adapter is called {name}")
        answer = {
            **{"adapter": self.identity(name, 1), "backbone": {"name": "tiny", "fingerprint": FINGERPRINT}},
            **{"label": query.get("label", "best"), "score": 0.75, "method": query["method"], "request_id": "r-1"},
            **{
                "grid": [1, 2],
                "values": [[0.0, 1.5]],
                "size": [8, 16],
                "box": [0, 0, 16, 8],
                "timing_ms": {"total": 5},
            },
        }
        return 200, answer, {}

    def alias(self, name: str, alias: str) -> tuple[int, Any, dict[str, str]]:
        if alias not in self.aliases[name]:
            return problem(404, "alias_not_found", f"{name} has no alias {alias}")
        version = self.aliases[name][alias]
        return 200, self.identity(name, version) | {"alias": alias, "trust": None}, {"ETag": f'"{alias}-{version}"'}

    def pointed(self, name: str, alias: str, wanted: dict[str, Any], if_match: str | None = None) -> dict[str, Any]:
        if "stable" in wanted:
            self.rollouts.start(name, alias, wanted, if_match)
            return self.identity(name, wanted["stable"]) | {"alias": alias, "trust": None}
        self.aliases[name][alias] = wanted["version"]
        self.protected[name, alias] = wanted.get("protected")
        thresholds = self.alias_trust[name]
        if "trust" in wanted:
            thresholds.pop(alias, None)
            if wanted["trust"]:
                thresholds[alias] = {"accept_confidence": None, "unfamiliar_percentile": None, **wanted["trust"]}
        return self.identity(name, wanted["version"]) | {"alias": alias, "trust": thresholds.get(alias)}

    def imported(self, name: str, query: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        """The zip file is kept as the adapter; its entries become the notes of the report."""
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            notes = [f"{entry}: {len(archive.read(entry))}" for entry in archive.namelist()]
            labels = json.loads(archive.read("labels.json")) if "labels.json" in archive.namelist() else ["0", "1"]
        module = {"module": "up", "form": "low-rank", "rank": 4, "error": 1e-8, "tensors": ["up.lora_A.weight"]}
        report = {
            **{"tool": "PEFT", "method": "LoRA", "labels": labels, "stored_as": "float32", "share": 0.5, "error": 1e-8},
            **{"matched": [module, {**module, "module": "head", "form": "head", "rank": None}]},
            **{"ignored": {"counter": "a counter"}, "unproven": "the weights", "notes": [*notes, json.dumps(query)]},
        }
        if "dry_run" in query:
            return 200, {"adapter": None, "report": report}, {}
        self.files.setdefault(name, []).append(body)
        self.aliases.setdefault(name, {})
        self.alias_trust.setdefault(name, {})
        return 201, {"adapter": self.identity(name, len(self.files[name])), "report": report}, {}

    def prediction(self, name: str, label: str) -> dict[str, Any]:
        return {
            "adapter": self.identity(name, len(self.files[name])),
            "backbone": {"name": "tiny", "fingerprint": FINGERPRINT},
            "predictions": [{"label": label, "score": 0.75}, {"label": "other", "score": 0.25}],
            "request_id": "r-1",
            "timing_ms": {"queue": 0.1, "decode": 1.0, "swap": 0.0, "forward": 4, "total": 5.1},
        }

    def judged(self, prediction: dict[str, Any], image: bytes, query: dict[str, str]) -> dict[str, Any]:
        """Images that begin with b"odd" are unfamiliar, and b"dim" ones uncertain; smoking promises nothing."""
        if image.startswith(b"old"):
            return prediction  # as a server of before trust answers
        label = prediction["predictions"][0]["label"]
        decision = {b"odd": "unfamiliar", b"dim": "uncertain"}.get(image[:3], "accept")
        unlike = decision == "unfamiliar"
        trust = {
            "decision": decision,
            "confidence": 0.75,
            "set": [label, "other"] if decision == "uncertain" else [label],
            "unfamiliarity": {"percentile": 99.5 if unlike else 37.5, "flag": unlike},
            "calibration": {"images": 412, "ece": 0.02, "coverage": 0.95},
        }
        trusted = None if prediction["adapter"]["name"] == "smoking" else trust
        abstained = None
        if query.get("decision") == "strict" and (trusted is None or decision != "accept"):
            prediction, abstained = prediction | {"predictions": []}, f"because of {decision}"
        return prediction | {"trust": trusted, "abstained": abstained}

    def identity(self, name: str, version: int) -> dict[str, Any]:
        return {"name": name, "version": version, "digest": digest_of(self.files[name][version - 1])}

    def info(self, name: str) -> dict[str, Any]:
        latest = len(self.files[name])
        return self.identity(name, latest) | {
            "size_bytes": len(self.files[name][-1]),
            "created_at": "2026-01-02T03:04:05Z",
            "method": "lora",
            "labels": MANIFEST["labels"],
            "backbone": MANIFEST["backbone"],
            "aliases": self.aliases[name],
            "rollouts": self.rollouts.of(name),
            "alias_trust": self.alias_trust[name],
            "trust": self.promises.get(name),
            "versions": list(range(1, latest + 1)),
            "status": "ready",
        }


@contextmanager
def served() -> Iterator[TinyServer]:
    """A TinyServer behind a real socket; `server.url` is its address."""
    tiny = TinyServer()

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True  # otherwise the body, a second write, waits 40 ms for an acknowledgement
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                status, document, headers = tiny.answer(self.command, self.path, body, self.headers)
            except HangUp:
                self.close_connection = True
                return
            if isinstance(document, Iterator):
                self.stream(document)
                return
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "X-Request-Id": "r-1", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def stream(self, events: Iterator[bytes]) -> None:
            """Without a length and in chunks, so that a client sees whether the end is the end."""
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for event in events:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            except HangUp:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do  # noqa: N815  http.server looks for these names

        def log_message(self, *arguments: object) -> None:
            """Tests read better without an access log."""

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was interrupted hangs up in the middle."""

    with Quiet(("127.0.0.1", 0), Handler) as http:
        tiny.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield tiny
        http.shutdown()
        thread.join()
