"""Two tenants ask for each other's names, digests, ids and files: the answers are those for what does not exist.

Each request is made twice: once with what the other tenant has, once with a twin of the same form that nobody has. Both
answers must be equal in status, headers and bytes, and both must have read the database by the same statements.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
import scipy.stats
import sqlalchemy as sa

from lensmount_service.access.policy import POLICY

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeAdapter, MakePng, Zip
    from tests.service.tenants.conftest import Server

LABS = {"lab1": ("kidney-secret", "biopsy-slides", "frozen"), "lab2": ("retina-hidden", "fundus-photos", "golden")}
JSON = {"Content-Type": "application/json"}
V2_VERSIONS = ("", "/versions/1", "/versions/{alias}", "/versions/{version_digest}")
V2_READS = ("", "/config", "/ready", "/stats")
V2_IMAGE = {"content": "PNG", "headers": {"Inference-Header-Content-Length": "0"}}

# {adapter}, {alias}, {version_digest}, {dataset}, {source}, {archive_digest}, {image}, {job}, {lease}: the other's
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/predict?adapter={adapter}", {"content": "PNG"}),
    ("POST", "/predict?adapter={adapter}@1", {"content": "PNG"}),
    ("POST", "/predict?adapter={adapter}@{version_digest}", {"content": "PNG"}),
    ("POST", "/predict?adapter=mine@{version_digest}", {"content": "PNG"}),
    ("POST", "/predict?adapter={adapter}:{alias}", {"content": "PNG"}),
    ("POST", "/predict?adapter=mine,{adapter}", {"content": "PNG"}),
    ("POST", "/predict?adapter=public/{adapter}", {"content": "PNG"}),
    ("POST", "/predict?adapter=OTHER/{adapter}", {"content": "PNG"}),
    ("POST", "/explain?adapter={adapter}", {"content": "PNG"}),
    ("POST", "/feedback?adapter={adapter}&label=a&who=me", {"content": "PNG"}),
    *(("GET", f"/v2/models/{{adapter}}{version}{what}", {}) for version in V2_VERSIONS for what in V2_READS),
    *(("POST", f"/v2/models/{{adapter}}{version}/infer", V2_IMAGE) for version in V2_VERSIONS),
    ("POST", "/v2/models/mine/versions/{version_digest}/infer", V2_IMAGE),
    ("POST", "/v2/repository/models/{adapter}/load", {}),
    ("POST", "/v2/repository/models/{adapter}/unload", {}),
    ("GET", "/v1/models", {}),
    *(("GET", f"/v1/models/{{adapter}}{version}", {}) for version in ("", "@1", ":{alias}", "@{version_digest}")),
    *(("POST", f"/v1/{verb}_lora_adapter", {"json": {"lora_name": "{adapter}"}}) for verb in ("load", "unload")),
    ("POST", "/v1/load_lora_adapter", {"json": {"lora_name": "mine", "lora_path": "{version_digest}"}}),
    ("POST", "/hf/{adapter}", {"content": "PNG"}),
    ("POST", "/invocations?adapter={adapter}", {"content": "PNG"}),
    ("POST", "/invocations", {"content": "PNG", "headers": {"X-Amzn-SageMaker-Target-Model": "{adapter}"}}),
    ("GET", "/integrations/labelstudio/{adapter}/health", {}),
    ("POST", "/integrations/labelstudio/{adapter}/setup", {}),
    ("GET", "/adapters/{adapter}", {}),
    ("GET", "/adapters/OTHER%2F{adapter}", {}),
    ("GET", "/adapters/public/{adapter}", {}),
    ("GET", "/adapters/{adapter}/versions/1", {}),
    ("GET", "/adapters/{adapter}/stats", {}),
    ("GET", "/adapters/{adapter}/file", {}),
    ("GET", "/adapters/{adapter}/file?version=1", {}),
    ("GET", "/adapters/{adapter}/export?to=peft", {}),
    (
        "POST",
        "/adapters/{adapter}/fetch",
        {"json": {"url": "https://adapters.example/a", "digest": f"sha256:{'0' * 64}"}},
    ),
    ("DELETE", "/adapters/{adapter}", {}),
    ("DELETE", "/adapters/{adapter}/versions/1", {}),
    ("PUT", "/adapters/{adapter}/aliases/{alias}", {"json": {"version": 1}}),
    ("GET", "/adapters/{adapter}/aliases/{alias}", {}),
    ("GET", "/adapters/mine/aliases/{alias}", {}),
    ("DELETE", "/adapters/{adapter}/aliases/{alias}", {}),
    ("DELETE", "/adapters/mine/aliases/{alias}", {}),
    ("PUT", "/adapters/{adapter}/aliases/{alias}", {"json": {"stable": 1, "canary": {"version": 2, "percent": 10}}}),
    ("GET", "/adapters/{adapter}/rollouts", {}),
    ("GET", "/adapters/{adapter}/rollouts/{alias}", {}),
    ("GET", "/adapters/mine/rollouts/{alias}", {}),
    ("POST", "/adapters/{adapter}/rollouts/{alias}/promote", {}),
    ("POST", "/adapters/{adapter}/rollouts/{alias}/rollback", {}),
    ("POST", "/adapters/mine/rollouts/{alias}/promote", {}),
    ("PUT", "/adapters/{adapter}/shared", {}),
    ("DELETE", "/adapters/{adapter}/shared", {}),
    ("GET", "/datasets/{dataset}", {}),
    ("GET", "/datasets/{dataset}?version=1", {}),
    ("GET", "/datasets/OTHER%2F{dataset}", {}),
    ("GET", "/datasets/{dataset}/file", {}),
    ("GET", "/datasets/{dataset}/file?digest={archive_digest}", {}),
    ("GET", "/datasets/ours/file?digest={archive_digest}", {}),
    ("DELETE", "/datasets/{dataset}", {}),
    ("DELETE", "/datasets/{dataset}?version=1", {}),
    ("GET", "/datasets/{dataset}/uploads/{source}", {}),
    ("GET", "/datasets/new/uploads/{source}", {}),
    ("PUT", "/datasets/new/uploads/{source}", {"content": b"x", "headers": {"Content-Range": "bytes {last_byte}"}}),
    ("POST", "/datasets/{dataset}/review", {}),
    ("GET", "/datasets/{dataset}/review", {}),
    ("POST", "/datasets/{dataset}/draft?adapter=mine", {}),
    ("POST", "/datasets/{dataset}/draft?adapter={adapter}", {}),
    ("PATCH", "/datasets/{dataset}/items", {"json": {"exclude": ["a/0.png"]}}),
    ("GET", "/datasets/{dataset}/items/image?path=a/0.png", {}),
    ("GET", "/datasets/{dataset}/unlabelled", {}),
    ("GET", "/datasets/{dataset}/unlabelled/{image}", {}),
    ("GET", "/datasets/ours/unlabelled/{image}", {}),
    ("DELETE", "/datasets/{dataset}/unlabelled", {}),
    ("POST", "/datasets/{dataset}/next?adapter=mine&who=me", {}),
    ("POST", "/datasets/ours/next?adapter={adapter}&who=me", {}),
    ("POST", "/datasets/{dataset}/labels", {"content": '{"who": "me", "labels": {"{image}": "a"}}', "headers": JSON}),
    ("POST", "/datasets/ours/labels", {"content": '{"who": "me", "labels": {"{image}": "a"}}', "headers": JSON}),
    ("GET", "/datasets/{dataset}/labels", {}),
    ("POST", "/datasets/{dataset}/versions", {}),
    ("POST", "/datasets/ours/versions?base={dataset}", {}),
    ("POST", "/adapters/{adapter}/undelete", {}),
    ("POST", "/adapters/{adapter}/versions/1/undelete", {}),
    ("POST", "/adapters/{adapter}/versions/1/release", {}),
    ("POST", "/datasets/{dataset}/undelete", {}),
    ("POST", "/datasets/{dataset}/undelete?version=1", {}),
    ("GET", "/adapters?deleted=true", {}),
    ("PUT", "/datasets/{dataset}/shared", {}),
    ("DELETE", "/datasets/{dataset}/shared", {}),
    ("POST", "/jobs", {"content": '{"dataset": "{dataset}", "adapter": "mine"}', "headers": JSON}),
    ("POST", "/jobs", {"content": '{"dataset": "public/{dataset}", "adapter": "mine"}', "headers": JSON}),
    ("GET", "/jobs?before={job}", {}),
    ("GET", "/jobs/{job}", {}),
    ("DELETE", "/jobs/{job}", {}),
    ("POST", "/jobs/{job}/retry", {}),
    ("GET", "/jobs/{job}/events", {}),
    ("GET", "/jobs/{job}/log", {}),
    ("GET", "/jobs/{job}/files", {}),
    ("DELETE", "/jobs/{job}/files", {}),
    ("GET", "/jobs/{job}/files/card.md", {}),
    ("GET", "/jobs/{job}/files/checkpoint", {"headers": {"Lensmount-Lease": "{lease}"}}),
    ("PUT", "/jobs/{job}/files/card.md", {"content": b"# Mine", "headers": {"Lensmount-Lease": "{lease}"}}),
    ("PUT", "/adapters/mine?job={job}", {"content": "ADAPTER", "headers": {"Lensmount-Lease": "{lease}"}}),
]


Had = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def had(server: Server, make_adapter: MakeAdapter, images: DrawImages, zipped: Zip) -> Had:
    """What each lab has, by the words of REQUESTS; and `mine` and `ours`, which both have, with other bytes."""
    return {lab: filled(server, lab, make_adapter, images, zipped) for lab in LABS}


def filled(server: Server, lab: str, make_adapter: MakeAdapter, images: DrawImages, zipped: Zip) -> dict[str, str]:
    seed = 10 * (1 + list(LABS).index(lab))
    adapter, dataset, alias = LABS[lab]
    made = server.done(lab, "PUT", f"/adapters/{adapter}", content=make_adapter(30 + seed))
    server.done(lab, "PUT", f"/adapters/{adapter}/aliases/{alias}", json={"version": 1})
    server.done(lab, "PUT", "/adapters/mine", content=make_adapter(5))
    archive = zipped(images(seed=seed, a=6, b=6))
    slides = server.done(lab, "PUT", f"/datasets/{dataset}", content=archive)
    server.done(lab, "PUT", "/datasets/ours", content=zipped(images(seed=5, a=6, b=6)))
    pooled = server.done(
        lab, "POST", f"/datasets/{dataset}/unlabelled?who=me", content=images(seed=seed, c=1)["c/0.png"]
    )
    image = pooled["images"][0]["digest"]
    server.done(lab, "POST", f"/datasets/{dataset}/labels", json={"who": "me", "labels": {image: "a"}})
    server.done(lab, "POST", "/datasets/ours/unlabelled?who=me", content=images(seed=5, c=1)["c/0.png"])
    job = server.done(lab, "POST", "/jobs", json={"dataset": dataset, "adapter": adapter})["id"]
    lease = server.parts.training.jobs.claim("w", server.parts.engine.backbone.fingerprint)
    assert lease is not None
    return {
        "adapter": adapter,
        "dataset": dataset,
        "alias": alias,
        "version_digest": made["digest"],
        "archive_digest": slides["digest"],
        "source": f"sha256:{hashlib.sha256(archive).hexdigest()}",
        "last_byte": f"{len(archive) - 1}-{len(archive) - 1}/{len(archive)}",
        "image": image,
        "job": job,
        "lease": lease.token,
        "OTHER": lab,
    }


def twins_of(words: Mapping[str, str], chance: random.Random) -> dict[str, str]:
    """Words of the same form for what nobody has."""

    def twin(word: str, text: str) -> str:
        if word == "last_byte":
            return text
        if word == "OTHER":
            return "labx"
        if re.fullmatch(r"(sha256:)?[0-9a-f]{32,}", text):
            return re.sub(r"[0-9a-f]{32,}", lambda found: chance.randbytes(len(found[0]) // 2).hex(), text)
        return text[::-1]

    return {word: twin(word, text) for word, text in words.items()}


def filled_in(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: filled_in(each, words) for key, each in value.items()}
    if not isinstance(value, str):
        return value
    value = value.replace("OTHER", words["OTHER"])
    for word, text in words.items():
        value = value.replace(f"{{{word}}}", text)
    return value


@contextlib.contextmanager
def statements() -> Iterator[list[str]]:
    """The SQL that runs meanwhile, without that of the timer that looks for jobs whose worker is gone, and of the
    threads that read stored files again and look after rollouts.
    """
    seen: list[str] = []

    def note(*arguments: Any) -> None:
        if threading.current_thread().name in ("lensmount-scrubber", "lensmount-rollouts"):
            return
        if arguments[2] not in ("BEGIN", "ROLLBACK") and "jobs.run_after <=" not in arguments[2]:
            seen.append(arguments[2])

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


def seen_of(answer: Any, words: Mapping[str, str], twins: Mapping[str, str]) -> tuple[int, dict[str, str], str]:
    """Status, headers and body, with the words in place of their twins and without the ids of the request."""

    def plain(text: str) -> str:
        for word, twin in twins.items():
            text = text.replace(twin, words[word])
        return text

    request_id = answer.headers["x-request-id"]
    headers = {name: plain(value) for name, value in answer.headers.items() if name not in ("x-request-id", "date")}
    return answer.status_code, headers, plain(answer.text.replace(request_id, "ID"))


Times = dict[str, list[tuple[float, float]]]  # by request: seconds for the other's words, and for those of nobody


def ask_both_ways(server: Server, had: Had, count: int, chance: random.Random, contents: Mapping[str, bytes]) -> Times:
    """`count` pairs of requests of each lab about what the other one has. Which of a pair goes first is by chance."""
    times: Times = {}
    for number in range(2 * count):
        lab, other = list(LABS)[:: 1 if number % 2 else -1]
        words = had[other]
        twins = twins_of(words, chance)
        method, path, options = (
            REQUESTS[number // 2 % len(REQUESTS)] if count >= len(REQUESTS) else chance.choice(REQUESTS)
        )
        options = {key: contents.get(value, value) if key == "content" else value for key, value in options.items()}
        unmeasured = twins_of(words, chance)  # so that what is the asker's own is in memory for both
        server.ask(lab, method, filled_in(path, unmeasured), **filled_in(options, unmeasured))
        answers, took = {}, {}
        for kind, text in chance.sample([("had", words), ("not had", twins)], 2):
            asked, filled = filled_in(path, text), filled_in(options, text)
            with statements() as read:
                began = time.perf_counter()
                answer = server.ask(lab, method, asked, **filled)
                took[kind] = time.perf_counter() - began
            answers[kind] = (*seen_of(answer, words, text), read)
        assert answers["had"] == answers["not had"], (lab, method, path)
        assert answers["had"][0] < 500, (lab, method, path)
        times.setdefault(f"{method} {path}", []).append((took["had"], took["not had"]))
    return times


def told_apart(times: Times) -> list[str]:
    """The requests whose times tell whether the other tenant has something: by Wilcoxon's signed-rank test of pairs.

    Of some 70 tests one in a thousand runs would be below this p by chance; a median difference below 2 % or 20 us
    is the machine's.
    """
    found = []
    for request, pairs in times.items():
        difference = statistics.median(had - not_had for had, not_had in pairs)
        typical = statistics.median(not_had for _, not_had in pairs)
        p = scipy.stats.wilcoxon([had - not_had for had, not_had in pairs]).pvalue
        if p < 1e-3 / len(times) and abs(difference) > max(0.02 * typical, 20e-6):
            found.append(f"{request}: {difference * 1e6:+.0f} us of {typical * 1e6:.0f} us, p = {p:.1e}")
    return found


def all_of(server: Server, lab: str) -> dict[str, Any]:
    """All that a tenant sees in its lists."""
    adapters = [adapter | {"tier": None} for adapter in server.done(lab, "GET", "/adapters")["adapters"]]
    return {
        "adapters": adapters,
        "datasets": server.done(lab, "GET", "/datasets"),
        "jobs": server.done(lab, "GET", "/jobs"),
        "pools": server.done(lab, "GET", "/pools"),
        "labels": server.done(lab, "GET", f"/datasets/{LABS[lab][1]}/labels"),
    }


def check(server: Server, had: Had, count: int, seed: int, contents: Mapping[str, bytes]) -> Times:
    before = {lab: all_of(server, lab) for lab in LABS}
    times = ask_both_ways(server, had, count, random.Random(seed), contents)
    assert {lab: all_of(server, lab) for lab in LABS} == before
    return times


@pytest.fixture(scope="module")
def contents(make_png: MakePng, make_adapter: MakeAdapter) -> dict[str, bytes]:
    return {"PNG": make_png(), "ADAPTER": make_adapter(7)}


def test_what_another_tenant_has_is_answered_like_what_does_not_exist(
    server: Server, had: Had, contents: dict[str, bytes]
) -> None:
    check(server, had, len(REQUESTS), 1, contents)


def test_times_that_differ_are_seen() -> None:
    chance = random.Random(0)

    def pairs(more: float) -> list[tuple[float, float]]:
        return [(chance.gauss(2e-3, 4e-4) + more, chance.gauss(2e-3, 4e-4)) for _ in range(300)]

    assert told_apart({"GET /alike": pairs(0.0), "GET /slower": pairs(2e-4)}) != []
    assert told_apart({"GET /alike": pairs(0.0), "GET /other": pairs(0.0)}) == []


@pytest.mark.soak
def test_10_000_requests_of_each_tenant_about_the_other_s_things_see_nothing_and_take_the_same_time(
    server: Server, had: Had, contents: dict[str, bytes]
) -> None:
    assert told_apart(check(server, had, 10_000, 2, contents)) == []


def test_lists_have_nothing_of_another_tenant(server: Server, had: Had) -> None:
    for lab, other in (("lab1", "lab2"), ("lab2", "lab1"), ("default", "lab1")):
        for path in ("/adapters", "/v1/models", "/datasets", "/jobs", "/adapters?public=true", "/datasets?public=true"):
            text = server.ask(lab, "GET", path).text
            assert not [word for word in (*LABS[other], had[other]["job"], f"{other}/") if word in text], (lab, path)


def test_every_route_with_a_name_or_an_id_is_among_the_requests() -> None:
    asked = {(method, re.sub(r"\?.*", "", path)) for method, path, _ in REQUESTS}
    shapes = {
        (method, re.sub(r"\{\w+\}|public/|OTHER%2F|\b(mine|ours|new|card\.md|checkpoint)\b|(?<=versions/)1", "*", path))
        for method, path in asked
    }
    routes = {
        (method, re.sub(r"\{\w+\}", "*", path))
        for (method, path), need in POLICY.items()
        if "{" in path and need != "operator" and not path.startswith("/tokens")
    }
    own = {
        ("PUT", "/datasets/*"),
        ("POST", "/datasets/*/unlabelled"),
        ("POST", "/adapters/*/import"),
    }  # make own things
    own |= {("POST", f"/integrations/labelstudio/*/{word}") for word in ("predict", "webhook")}  # as its health
    assert routes - shapes == own


def test_only_operators_read_metrics_which_tell_the_tenants_apart(
    server: Server, had: Had, contents: dict[str, bytes]
) -> None:
    for lab in LABS:
        server.done(lab, "POST", "/predict?adapter=mine", content=contents["PNG"])

    text = server.ask("default", "GET", "/metrics").text

    assert re.search(r'lensmount_requests_total\{adapter="lab1/mine",code="200"\} 1\.0', text)
    assert re.search(r'lensmount_requests_total\{adapter="lab2/mine",code="200"\} 1\.0', text)
    assert server.ask("lab1", "GET", "/metrics").status_code == 403
