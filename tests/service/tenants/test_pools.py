"""Each tenant has its own pools, labels and leases, even of the same images under the same name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeAdapter
    from tests.service.tenants.conftest import Server


def test_labels_of_the_same_image_in_pools_of_one_name_stay_apart(
    server: Server, images: DrawImages, make_adapter: MakeAdapter
) -> None:
    files = [("file", data) for data in images(seed=8, a=2, b=2).values()]
    pools = {}
    for who in ("lab1", "lab2"):
        server.done(who, "PUT", "/adapters/cells", content=make_adapter(1))
        added = server.done(who, "POST", "/datasets/slides/unlabelled?who=reader", files=files)
        assert added["added"] == 4, who  # also for the second tenant
        pools[who] = [image["digest"] for image in added["images"]]
    assert pools["lab1"] == pools["lab2"]

    given = {digest: "ab"[number % 2] for number, digest in enumerate(pools["lab1"])}
    server.done("lab1", "POST", "/datasets/slides/labels", json={"who": "reader", "labels": given})

    assert len(server.done("lab1", "GET", "/datasets/slides/labels")["labels"]) == 4
    assert server.done("lab2", "GET", "/datasets/slides/labels")["labels"] == []
    made = server.done("lab1", "POST", "/datasets/slides/versions")
    assert (made["name"], made["labelled"], made["tenant"], made["owner"]) == ("slides", 4, "lab1", "lab1-boss")
    reserved = server.done("lab2", "POST", "/datasets/slides/next?who=reader&adapter=cells&n=3&strategy=margin")
    while reserved["state"] == "scoring":
        reserved = server.done("lab2", "POST", "/datasets/slides/next?who=reader&adapter=cells&n=3&strategy=margin")
    for who, labelled, held in (("lab1", 4, {}), ("lab2", 0, {"reader": 3})):
        (pool,) = server.done(who, "GET", "/pools")["pools"]
        assert (pool["name"], pool["images"], pool["labelled"], pool["held"]) == ("slides", 4, labelled, held)
    server.done("lab1", "DELETE", "/datasets/slides/unlabelled")
    assert server.ask("lab2", "GET", f"/datasets/slides/unlabelled/{pools['lab2'][0]}").status_code == 200


def test_feedback_goes_to_the_pool_of_the_tenant_that_gives_it(server: Server, images: DrawImages) -> None:
    image = images(seed=7, a=1)["a/0.png"]

    kept = server.done("lab1", "POST", "/feedback?adapter=cells&label=a&who=reader", content=image)

    assert kept["dataset"] == "cells-feedback"
    assert len(server.done("lab1", "GET", "/datasets/cells-feedback/labels")["labels"]) == 1
    assert server.done("lab2", "GET", "/datasets/cells-feedback/labels")["labels"] == []


def test_feedback_on_a_public_adapter_goes_to_a_pool_of_one_s_own(server: Server, images: DrawImages) -> None:
    server.done("lab1", "PUT", "/adapters/cells/shared?as=blood")
    image = images(seed=7, a=2)["a/1.png"]

    kept = server.done("lab2", "POST", "/feedback?adapter=public/blood&label=a&who=reader", content=image)

    assert (kept["dataset"], kept["adapter"]["name"]) == ("blood-feedback", "public/blood")
    assert len(server.done("lab2", "GET", "/datasets/blood-feedback/labels")["labels"]) == 1
    assert server.done("lab1", "GET", "/datasets/blood-feedback/labels")["labels"] == []
