"""The operations that a fault may interrupt: each with what it needs, what it does, and what it changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi.testclient import TestClient

from lensmount_service.build import Parts
from lensmount_service.errors import NotFound

JOB = {"method": "norm", "epochs": 1, "size": 32}


@dataclass(frozen=True)
class World:
    """A server, and what operations send to it: other bytes for each name, so that every one of them is written."""

    parts: Parts
    client: TestClient
    draw_adapter: Callable[[int], bytes]
    draw_images: Callable[[int], list[bytes]]
    pack: Callable[[dict[str, bytes]], bytes]

    def version(self, key: str, number: int) -> bytes:
        return self.draw_adapter(2 * number_of(key) + number)

    def images(self, key: str) -> list[bytes]:
        return self.draw_images(number_of(key))

    def archive(self, key: str) -> bytes:
        return self.pack({f"{'ab'[at % 2]}/{at}.png": image for at, image in enumerate(self.images(key))})

    def adapter(self, key: str) -> Any:
        return self._get(f"/adapters/{key}", lambda body: (body["versions"], body["aliases"], body["digest"]))

    def dataset(self, key: str) -> Any:
        return self._get(f"/datasets/{key}", lambda body: body["digest"])

    def pool(self, key: str) -> Any:
        try:
            images = [image.digest for image in self.parts.training.pools.images(key)]
        except NotFound:
            images = []
        labels = self._get(f"/datasets/{key}/labels", lambda body: {label["digest"] for label in body["labels"]})
        return images, labels, self.dataset(key)

    def jobs(self, key: str) -> list[tuple[str, str]]:
        listed = self.client.get("/jobs?limit=1000").json()["jobs"]
        return [(job["id"], job["state"]) for job in listed if job["adapter"] == key]

    def _get(self, path: str, part: Callable[[Any], Any]) -> Any:
        answer = self.client.get(path)
        assert answer.status_code < 500, answer.text
        return part(answer.json()) if answer.status_code == 200 else answer.json()["code"]


def number_of(key: str) -> int:
    return int(key.removeprefix("k"))


Step = Callable[[World, str], Any]


@dataclass(frozen=True)
class Operation:
    """`prepare` and `act` take the world and a fresh name; `act` returns the response; `state` what it may change."""

    prepare: Step
    act: Step
    state: Step


def nothing(world: World, key: str) -> None:
    pass


def upload(world: World, key: str, version: int = 0) -> Any:
    return world.client.put(f"/adapters/{key}", content=world.version(key, version))


def two_versions(world: World, key: str) -> None:
    assert upload(world, key).status_code == 201
    assert upload(world, key, 1).status_code == 201


def push(world: World, key: str) -> Any:
    return world.client.put(f"/datasets/{key}", content=world.archive(key), headers={"Content-Type": "application/zip"})


def pushed(world: World, key: str) -> None:
    assert push(world, key).status_code in (200, 201)


def last_chunk(world: World, key: str) -> Any:
    data = world.archive(key)
    half = len(data) // 2
    path = f"/datasets/{key}/uploads/sha256:{hashlib.sha256(data).hexdigest()}"
    received = world.client.get(path).json()["received"]
    if received < half:
        header = {"Content-Range": f"bytes 0-{half - 1}/{len(data)}"}
        answer = world.client.put(path, content=data[:half], headers=header)
        if answer.status_code >= 300:
            return answer
        received = answer.json()["received"]
    header = {"Content-Range": f"bytes {received}-{len(data) - 1}/{len(data)}"}
    return world.client.put(path, content=data[received:], headers=header)


def add_images(world: World, key: str) -> Any:
    """All images in one request: each is a change of its own."""
    files = [("file", image) for image in world.images(key)]
    return world.client.post(f"/datasets/{key}/unlabelled?who=reader1", files=files)


def add_image(world: World, key: str) -> Any:
    return world.client.post(f"/datasets/{key}/unlabelled?who=reader1", content=world.images(key)[0])


def added(world: World, key: str) -> None:
    assert add_images(world, key).status_code == 201


def label(world: World, key: str) -> Any:
    digests = [image.digest for image in world.parts.training.pools.images(key)]
    labels = {digest: "ab"[at % 2] for at, digest in enumerate(digests)}
    return world.client.post(f"/datasets/{key}/labels", json={"who": "reader1", "labels": labels})


def labelled(world: World, key: str) -> None:
    added(world, key)
    assert label(world, key).status_code in (200, 201)


def submit(world: World, key: str) -> Any:
    body = {"dataset": key, "adapter": key, **JOB}
    return world.client.post("/jobs", json=body, headers={"Idempotency-Key": key})


def submitted(world: World, key: str) -> None:
    pushed(world, key)
    assert submit(world, key).status_code == 201


def cancel(world: World, key: str) -> Any:
    return world.client.delete(f"/jobs/{world.jobs(key)[0][0]}")


def delete(path: str) -> Step:
    return lambda world, key: world.client.delete(path.format(key=key))


def alias(world: World, key: str) -> Any:
    return world.client.put(f"/adapters/{key}/aliases/prod", json={"version": 1})


OPERATIONS = {
    "upload": Operation(nothing, upload, World.adapter),
    "replace": Operation(upload, lambda world, key: upload(world, key, 1), World.adapter),
    "alias": Operation(two_versions, alias, World.adapter),
    "delete a version": Operation(two_versions, delete("/adapters/{key}/versions/2"), World.adapter),
    "delete": Operation(upload, delete("/adapters/{key}"), World.adapter),
    "purge": Operation(upload, delete("/adapters/{key}?purge=true"), World.adapter),
    "purge a dataset": Operation(pushed, delete("/datasets/{key}?purge=true"), World.dataset),
    "push": Operation(nothing, push, World.dataset),
    "last chunk": Operation(nothing, last_chunk, World.dataset),
    "delete a dataset": Operation(pushed, delete("/datasets/{key}"), World.dataset),
    "add an image": Operation(nothing, add_image, World.pool),
    "label": Operation(added, label, World.pool),
    "publish labels": Operation(
        labelled, lambda world, key: world.client.post(f"/datasets/{key}/versions", json={}), World.pool
    ),
    "delete a pool": Operation(labelled, delete("/datasets/{key}/unlabelled"), World.pool),
    "submit": Operation(pushed, submit, World.jobs),
    "cancel": Operation(submitted, cancel, World.jobs),
}
