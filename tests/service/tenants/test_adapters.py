"""Each tenant has its own adapters, and reads those that others share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_service.access.tokens import TokenStore

if TYPE_CHECKING:
    from tests.service.conftest import CompareAnswers, MakeAdapter, MakeParts, MakePng
    from tests.service.tenants.conftest import Server


@pytest.fixture(scope="module", autouse=True)
def _two(server: Server, make_adapter: MakeAdapter) -> None:
    server.done("lab1", "PUT", "/adapters/cells", content=make_adapter(1))
    server.done("lab2", "PUT", "/adapters/cells", content=make_adapter(2, ("x", "y")))


def predicted(server: Server, who: str, adapter: str, image: bytes) -> Any:
    return server.done(who, "POST", f"/predict?adapter={adapter}", content=image)


def test_two_tenants_have_different_adapters_of_one_name(server: Server, make_png: MakePng) -> None:
    answers = [predicted(server, who, "cells", make_png()) for who in ("lab1", "lab2")]

    assert [answer["adapter"]["name"] for answer in answers] == ["cells", "cells"]
    assert [{p["label"] for p in answer["predictions"]} for answer in answers] == [{"a", "b"}, {"x", "y"}]
    assert server.ask("default", "POST", "/predict?adapter=cells", content=make_png()).status_code == 404


def test_answers_say_whose_an_adapter_is_and_who_uploaded_it(server: Server) -> None:
    for path in ("/adapters/cells", "/adapters/cells/versions/1"):
        shown = server.done("lab1", "GET", path)
        assert (shown["name"], shown["tenant"], shown["owner"]) == ("cells", "lab1", "lab1-boss")
    (listed,) = server.done("lab1", "GET", "/adapters")["adapters"]
    assert (listed["name"], listed["tenant"]) == ("cells", "lab1")


def test_the_same_file_of_two_tenants_stays_until_both_have_deleted_it(
    server: Server, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    for who in ("lab1", "lab2"):
        server.done(who, "PUT", "/adapters/same", content=make_adapter(9))

    server.done("lab1", "DELETE", "/adapters/same")

    assert predicted(server, "lab2", "same", make_png())["adapter"]["version"] == 1
    server.done("lab2", "DELETE", "/adapters/same")


def test_a_write_compares_its_precondition_with_the_adapter_of_its_own_tenant(
    server: Server, make_adapter: MakeAdapter
) -> None:
    first = {"If-None-Match": "*"}
    for who, seed in (("lab1", 7), ("lab2", 8)):
        assert (
            server.ask(who, "PUT", "/adapters/compared", content=make_adapter(seed), headers=first).status_code == 201
        )
    tag = server.ask("lab1", "GET", "/adapters/compared").headers["ETag"]

    refused = server.ask("lab2", "DELETE", "/adapters/compared", headers={"If-Match": tag})

    assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    assert tag.strip('"') not in refused.json()["detail"]
    assert server.ask("lab1", "DELETE", "/adapters/compared", headers={"If-Match": tag}).status_code == 204
    server.done("lab2", "DELETE", "/adapters/compared")


def test_a_mistyped_name_suggests_own_names_only(server: Server) -> None:
    detail = server.ask("lab1", "GET", "/adapters/cels").json()["detail"]

    assert "Did you mean 'cells'?" in detail
    assert "lab" not in detail
    assert "Did you mean" not in server.ask("default", "GET", "/adapters/cels").json()["detail"]


def test_a_shared_adapter_answers_others_under_its_public_name_only(
    server: Server, make_png: MakePng, same_scores: CompareAnswers
) -> None:
    shared = server.done("lab1", "PUT", "/adapters/cells/shared?as=blood")
    own, public = predicted(server, "lab1", "cells", make_png()), predicted(server, "lab2", "public/blood", make_png())

    assert shared == {"name": "cells", "public_name": "public/blood"}
    assert public["adapter"] == own["adapter"] | {"name": "public/blood"}
    assert same_scores(own, public)
    for path in ("/adapters/public/blood", "/adapters/public/blood/versions/1", "/adapters/public%2Fblood"):
        shown = server.done("lab2", "GET", path)
        assert (shown["name"], shown["tenant"], shown["owner"]) == ("public/blood", "public", None)
    assert [a["name"] for a in server.done("lab2", "GET", "/adapters?public=true")["adapters"]] == ["public/blood"]
    assert [a["name"] for a in server.done("lab2", "GET", "/adapters")["adapters"]] == ["cells"]
    file = server.ask("lab2", "GET", "/adapters/public/blood/file")
    assert file.headers["content-disposition"] == 'attachment; filename="blood.safetensors"'
    missing = server.ask("lab2", "GET", "/adapters/public/blood/versions/9").json()["detail"]
    assert missing == "found no version 9 of 'public/blood'. Did you mean 1, the latest?"

    server.done("lab1", "DELETE", "/adapters/cells/shared")
    assert server.ask("lab2", "POST", "/predict?adapter=public/blood", content=make_png()).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/adapters/public/blood", b"any"),
        ("DELETE", "/adapters/public/blood", None),
        ("DELETE", "/adapters/public/blood/versions/1", None),
        ("PUT", "/adapters/public/blood/aliases/prod", b'{"version": 1}'),
        ("DELETE", "/adapters/public/blood/aliases/prod", None),
        ("PUT", "/adapters/public/blood/shared", None),
        ("POST", "/adapters/public/blood/import", b"any"),
        ("POST", "/adapters/public/blood/versions/1/release", None),
    ],
)
def test_what_is_public_is_read_only_for_all(server: Server, method: str, path: str, body: bytes | None) -> None:
    for who in ("lab1", "lab2", "default"):
        refused = server.ask(who, method, path, content=body, headers={"Content-Type": "application/json"})
        assert (refused.status_code, refused.json()["code"]) == (403, "public_read_only"), who


def test_only_an_administrator_protects_an_alias_and_moves_it_then(server: Server, make_adapter: MakeAdapter) -> None:
    server.done("lab1", "PUT", "/adapters/guarded", content=make_adapter(11))
    server.done("lab1", "PUT", "/adapters/guarded", content=make_adapter(12))
    alias = "/adapters/guarded/aliases/prod"
    server.done("lab1:upload", "PUT", alias, json={"version": 1})
    assert server.ask("lab1:upload", "PUT", alias, json={"version": 1, "protected": True}).status_code == 403

    server.done("lab1", "PUT", alias, json={"version": 1, "protected": True})

    assert server.done("lab1", "GET", "/adapters/guarded")["protected_aliases"] == ["prod"]
    for method, path, body in (
        ("PUT", alias, {"version": 2}),
        ("DELETE", alias, None),
        ("DELETE", "/adapters/guarded/versions/1", None),
        ("DELETE", "/adapters/guarded", None),
    ):
        refused = server.ask("lab1:upload", method, path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "alias_protected"), path
        assert "lab1/" not in refused.json()["detail"]
    server.done("lab1:upload", "DELETE", "/adapters/guarded/versions/2")
    server.done("lab1", "PUT", alias, json={"version": 1, "protected": False})
    server.done("lab1:upload", "DELETE", "/adapters/guarded")


def test_an_adapter_that_is_deleted_is_shared_no_longer(server: Server, make_adapter: MakeAdapter) -> None:
    server.done("lab1", "PUT", "/adapters/brief", content=make_adapter(13))
    server.done("lab1", "PUT", "/adapters/brief/shared")
    assert server.ask("lab2", "GET", "/adapters/public/brief").status_code == 200

    server.done("lab1", "DELETE", "/adapters/brief/versions/1")
    server.done("lab1", "PUT", "/adapters/brief", content=make_adapter(13))

    assert server.ask("lab2", "GET", "/adapters/public/brief").status_code == 404


def test_what_a_tenant_deleted_is_listed_to_it_alone(server: Server, make_adapter: MakeAdapter) -> None:
    server.done("lab1", "PUT", "/adapters/gone", content=make_adapter(16))
    server.done("lab1", "DELETE", "/adapters/gone")

    lists = {who: server.done(who, "GET", "/adapters?deleted=true") for who in ("lab1", "lab2", "default")}

    assert "gone" in [version["name"] for version in lists["lab1"]["deleted"]]
    assert "gone" not in str([lists["lab2"], lists["default"]])


@pytest.mark.parametrize("owner", ["lab1", "default"])
def test_a_quarantine_is_told_in_the_words_of_each_and_only_the_owner_lifts_it(
    server: Server, make_adapter: MakeAdapter, make_png: MakePng, owner: str
) -> None:
    digest = server.done(owner, "PUT", "/adapters/weak", content=make_adapter(14))["digest"]
    server.done(owner, "PUT", f"/adapters/weak/shared?as=common-{owner}")
    for tenant in (owner, "lab2") * 3:
        server.parts.engine.quarantine.failed(digest, "its scores were not finite", tenant)

    told = {
        who: server.ask(who, "POST", f"/predict?adapter={name}", content=make_png()).json()
        for who, name in ((owner, "weak"), ("lab2", f"public/common-{owner}"))
    }

    assert {answer["code"] for answer in told.values()} == {"adapter_quarantined"}
    assert told[owner]["detail"].startswith(f"weak@1 ({digest}) is quarantined")
    assert (
        "Fix: upload a version that works, or lift it with `lensmount adapters release weak@1`" in told[owner]["detail"]
    )
    assert told["lab2"]["detail"].startswith(f"public/common-{owner}@1 ({digest}) is quarantined")
    assert told["lab2"]["detail"].endswith("Fix: ask its owner for another version")
    assert "weak" not in told["lab2"]["detail"]
    released = server.done(owner, "POST", "/adapters/weak/versions/1/release")
    assert (released["name"], released["digest"]) == ("weak", digest)
    assert predicted(server, "lab2", f"public/common-{owner}", make_png())["adapter"]["version"] == 1


def test_what_the_images_of_one_tenant_do_to_an_adapter_is_nothing_to_another_with_the_same_bytes(
    server: Server, make_adapter: MakeAdapter, make_png: MakePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    for who in ("lab1", "lab2"):
        digest = server.done(who, "PUT", "/adapters/twin", content=make_adapter(15))["digest"]
    server.done("lab2", "PUT", "/adapters/twin/shared?as=twin")
    scores = type(server.parts.engine.runner).scores

    def fail_for_lab1(runner: Any, items: Any) -> Any:
        if any(item.tenant == "lab1" for item in items):
            raise ValueError("an image that makes it fail")
        return scores(runner, items)

    monkeypatch.setattr(type(server.parts.engine.runner), "scores", fail_for_lab1)
    ask = lambda who, name: server.ask(who, "POST", f"/predict?adapter={name}", content=make_png())  # noqa: E731
    for name in ("twin", "public/twin", "twin"):
        assert ask("lab1", name).json()["code"] == "forward_failed"
    monkeypatch.undo()

    for name in ("twin", "public/twin"):
        assert ask("lab1", name).json()["code"] == "adapter_quarantined"
    assert server.done("lab1", "GET", "/adapters/twin")["status"] == "quarantined"
    assert ask("lab2", "twin").status_code == ask("default", "public/twin").status_code == 200
    assert server.done("lab2", "GET", "/adapters/twin")["status"] == "ready"
    assert server.done("lab1", "POST", "/adapters/twin/versions/1/release")["digest"] == digest
    assert ask("lab1", "twin").status_code == 200


def test_a_tier_does_not_tell_that_another_tenant_uses_the_same_bytes(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    with make_parts(cache_bytes=1, hot_bytes=0) as parts, TestClient(parts.app) as client:
        tokens = TokenStore(parts.training.jobs.database)
        secrets = {lab: tokens.create(lab, ["admin"], lab)[1] for lab in ("lab1", "lab2", "lab3")}
        headers = {lab: {"Authorization": f"Bearer {secret}"} for lab, secret in secrets.items()}

        def tier(lab: str) -> str:
            return str(client.get("/adapters/cells", headers=headers[lab]).json()["tier"])

        for lab in ("lab1", "lab2"):
            client.put("/adapters/cells", content=make_adapter(1), headers=headers[lab])
        client.put(
            "/adapters/other", content=make_adapter(2), headers=headers["lab3"]
        )  # takes the only place in memory
        assert (tier("lab1"), tier("lab2")) == ("file", "file")

        client.post("/predict?adapter=cells", content=make_png(), headers=headers["lab1"])

        assert tier("lab1") != "file"
        assert tier("lab2") == "file"
        client.post("/predict?adapter=cells", content=make_png(), headers=headers["lab2"])
        assert tier("lab2") == tier("lab1")


def test_unloading_gives_back_memory_only_as_far_as_no_other_tenant_uses_the_bytes(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    with make_parts(pinned="kept") as parts, TestClient(parts.app) as client:
        tokens = TokenStore(parts.training.jobs.database)
        headers = {
            lab: {"Authorization": f"Bearer {tokens.create(lab, ['admin'], lab)[1]}"}
            for lab in ("default", "lab1", "lab2")
        }

        def unload(lab: str, name: str) -> Any:
            return client.post("/v1/unload_lora_adapter", json={"lora_name": name}, headers=headers[lab])

        def tier(lab: str) -> str:
            return str(client.get("/v1/models/cells", headers=headers[lab]).json()["tier"])

        for lab in ("lab1", "lab2"):
            client.put("/adapters/cells", content=make_adapter(1), headers=headers[lab])
        digest = client.get("/adapters/cells", headers=headers["lab1"]).json()["digest"]
        assert unload("lab1", "cells").status_code == 200
        assert (tier("lab1"), tier("lab2") == "file") == ("file", False)
        assert parts.catalog.tier_in_memory(digest)
        assert unload("lab2", "cells").status_code == 200
        assert (tier("lab2"), parts.catalog.tier_in_memory(digest)) == ("file", "")
        for lab in ("lab1", "lab2"):
            assert client.post("/predict?adapter=cells", content=make_png(), headers=headers[lab]).status_code == 200

        client.put("/adapters/kept", content=make_adapter(1), headers=headers["default"])
        assert client.put("/adapters/kept/shared", headers=headers["default"]).is_success
        for lab in ("lab1", "lab2"):
            assert unload(lab, "cells").status_code == 200
        assert parts.catalog.tier_in_memory(digest)
        for lab, name in (("default", "kept"), ("lab1", "public/kept")):
            refused = unload(lab, name)
            assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
            assert "LENSMOUNT_PINNED" in refused.json()["detail"]
