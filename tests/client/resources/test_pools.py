"""Pools by both clients: images are sent, proposed, labelled and published."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lensmount_client import AsyncClient, Client, DatasetNotFound, FeedbackOff, Pool


def test_images_are_sent_proposed_labelled_and_published(server: Any) -> None:
    with Client(server.url) as client:
        first, second = (client.pools.add("cells", image, "reader1", "slide 1") for image in (b"one", b"two"))
        found = client.pools.next("cells", "malaria", "reader1", n=1, strategy="margin", lease_s=60)
        labels = client.pools.label("cells", {first.digest: "a", second.digest: "b"}, "reader1")
        client.pools.label("cells", {first.digest: "b"}, "reader2")
        everything = client.pools.labels("cells")
        made = client.pools.publish("cells", base="cells@1")
        pools = client.pools.list()
        png = client.pools.png("cells", first.digest, side=64)
        client.pools.delete("cells")
        with pytest.raises(DatasetNotFound):
            client.pools.labels("cells")

    assert (first.added_by, first.group) == ("reader1", "slide 1")
    assert (found.state, [item.digest for item in found.items]) == ("done", [first.digest])
    assert found.items[0].predictions[0].label == "Parasitized"
    assert len(server.pools.asked) == 2  # the first answer was that the adapter still computes
    assert server.pools.asked[0] == {
        **{"adapter": "malaria", "who": "reader1", "n": "1"},
        **{"strategy": "margin", "lease_s": "60"},
    }
    assert [(label.label, label.who) for label in labels] == [("a", "reader1"), ("b", "reader1")]
    assert [label.number for label in everything] == [1, 2, 3]  # of two pages
    assert (made.dataset.reference, made.labelled, len(made.disputed)) == ("cells@3", 3, 1)
    assert pools == [Pool("cells", images=2, labelled=2, size_bytes=6, held={"reader2": 1})]
    assert png == b"PNG 64"


def test_the_async_client_does_the_same(server: Any) -> None:
    async def run() -> list[Any]:
        async with AsyncClient(server.url) as client:
            image = await client.pools.add("cells", b"one", "reader1")
            found = await client.pools.next("cells", "malaria", "reader1")
            await client.pools.label("cells", {image.digest: "a"}, "reader1")
            kept = await client.feedback(b"two", "malaria", "Uninfected", who="reader1", request_id="0" * 32)
            labels = await client.pools.labels("cells")
            assert [(pool.name, pool.labelled) for pool in await client.pools.list()] == [("cells", 1)]
            made = await client.pools.publish("cells")
            png = await client.pools.png("cells", image.digest)
            await client.pools.delete("cells")
            return [found.items[0].digest == image.digest, kept.dataset, len(labels), made.dataset.version, png]

    assert asyncio.run(run()) == [True, "malaria-feedback", 2, 2, b"PNG 512"]


def test_feedback_is_kept_or_refused_as_the_operator_says(server: Any) -> None:
    with Client(server.url) as client:
        kept = client.feedback(b"image", "malaria", "Uninfected", who="reader1", request_id="0" * 32)
        server.pools.feedback_on = False
        with pytest.raises(FeedbackOff):
            client.feedback(b"image", "malaria", "Uninfected", who="reader1")

    assert (kept.dataset, kept.label, kept.who, kept.adapter.name) == (
        "malaria-feedback",
        "Uninfected",
        "reader1",
        "malaria",
    )
    assert server.pools.labels[0]["request_id"] == "0" * 32
