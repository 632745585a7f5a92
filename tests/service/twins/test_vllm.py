"""What scripts for vLLM send: the models, and adapters that are loaded and unloaded."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from lensmount_service.build import Parts
from lensmount_service.errors import RequestError
from lensmount_service.twins.vllm import LoadRequest, reference_of

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakePng
    from tests.service.twins.conftest import Predict


def load(api: httpx.Client, **members: Any) -> httpx.Response:
    return api.post("/v1/load_lora_adapter", json=members)


def unload(api: httpx.Client, **members: Any) -> httpx.Response:
    return api.post("/v1/unload_lora_adapter", json=members)


def tier(api: httpx.Client, model: str) -> str:
    found: str = api.get(f"/v1/models/{model}").json()["tier"]
    return found


def test_the_models_are_the_backbone_and_the_adapters(parts: Parts, api: httpx.Client) -> None:
    listed = api.get("/v1/models").json()
    base, *adapters = listed["data"]
    backbone = parts.engine.backbone
    assert (listed["object"], base["id"], base["parent"]) == ("list", backbone.name, None)
    stored = {each["name"]: each for each in api.get("/adapters").json()["adapters"]}
    assert [each["id"] for each in adapters] == sorted(stored)
    for card in adapters:
        version = stored[card["id"]]
        assert (card["object"], card["owned_by"], card["parent"]) == ("model", "lensmount", backbone.name)
        assert (card["root"], card["version"]) == (version["digest"], version["version"])
        assert card["created"] > 1_600_000_000
        assert api.get(f"/v1/models/{card['id']}").json() | {"tier": None} == card | {"tier": None}
    assert api.get(f"/v1/models/{backbone.name}").json() == base


def test_a_reference_names_a_model_too(api: httpx.Client) -> None:
    digest = api.get("/adapters/cells/versions/1").json()["digest"]
    for reference in ("cells@1", "cells:prod", f"cells@{digest}"):
        card = api.get(f"/v1/models/{reference}").json()
        assert (card["id"], card["root"], card["version"]) == (reference, digest, 1)


def test_an_adapter_is_loaded_unloaded_and_answers_as_before(
    parts: Parts, api: httpx.Client, predicted: Predict, make_png: MakePng
) -> None:
    expected = predicted("tiles", make_png())
    gone = unload(api, lora_name="tiles")
    assert (gone.status_code, gone.text) == (200, "Success: LoRA adapter 'tiles' removed successfully.")
    assert gone.headers["Content-Type"].startswith("text/plain")
    assert tier(api, "tiles") == "file"
    here = load(api, lora_name="tiles", lora_path="tiles", load_inplace=False)
    assert (here.status_code, here.text) == (200, "Success: LoRA adapter 'tiles' added successfully.")
    assert tier(api, "tiles") != "file"
    found = parts.catalog.resolve_cached(reference_of(LoadRequest(lora_name="tiles")))
    assert found is not None
    assert parts.engine.runner.ready(found.adapter)
    scores = {each["label"]: each["score"] for each in predicted("tiles", make_png())}
    assert scores == pytest.approx({str(each["label"]): each["score"] for each in expected}, abs=1e-6)
    assert unload(api, lora_name="tiles").status_code == 200
    assert predicted("tiles", make_png())[0]["label"] == expected[0]["label"]


def test_both_may_be_repeated(api: httpx.Client) -> None:
    for call in (unload, unload, load, load, unload):
        assert call(api, lora_name="cells").status_code == 200


def test_a_version_alone_is_loaded_and_a_name_alone_unloads_all_of_them(api: httpx.Client) -> None:
    digest = api.get("/adapters/cells/versions/1").json()["digest"]
    for path in ("cells@1", digest, "cells:prod"):
        unload(api, lora_name="cells")
        assert load(api, lora_name="cells", lora_path=path).status_code == 200
        assert (tier(api, "cells@1") != "file", tier(api, "cells@2")) == (True, "file")
    assert load(api, lora_name="cells").status_code == 200
    unload(api, lora_name="cells@1")
    assert (tier(api, "cells@1"), tier(api, "cells@2") != "file") == ("file", True)


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "/adapters/tiles", "./tiles", "../tiles", "tiles/adapter.safetensors", "C:\\tiles", "~/tiles"),
        *("https://example.org/tiles", "s3://bucket/tiles", "file:///tiles", "organisation/tiles", "sha256:00", " "),
    ],
)
def test_a_file_or_an_address_is_refused_and_the_advice_works(
    path: str, api: httpx.Client, make_adapter: MakeAdapter
) -> None:
    refused = load(api, lora_name="fresh", lora_path=path)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["type"], error["param"]) == (400, 400, "BadRequestError", None)
    assert error["message"].startswith("bad_request: lora_path: found ")
    assert error["message"].endswith(
        "Fix: upload the file as fresh with PUT /adapters/{name}, then leave lora_path out"
    )
    assert api.put("/adapters/fresh", content=make_adapter(7)).is_success
    assert load(api, lora_name="fresh").status_code == 200


def test_two_names_that_differ_are_refused() -> None:
    for name, path in (("cells", "tiles"), ("cells@1", "cells@2"), ("cells@1", "cells"), ("cells", "public/cells")):
        with pytest.raises(RequestError, match="expected the same adapter in both"):
            reference_of(LoadRequest(lora_name=name, lora_path=path))


def test_what_is_not_there_has_vllms_error_with_our_code(api: httpx.Client) -> None:
    for answer, code in [
        (load(api, lora_name="nothing"), "adapter_not_found"),
        (load(api, lora_name="cells", lora_path="cells@9"), "version_not_found"),
        (unload(api, lora_name="nothing"), "adapter_not_found"),
        (api.get("/v1/models/nothing"), "adapter_not_found"),
        (api.get("/v1/nothing"), "not_found"),
        (api.post("/v1/chat/completions", json={}), "not_found"),
    ]:
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["code"]) == (404, "NotFoundError", 404)
        assert error["message"] == f"{code}: {answer.json()['detail']}"


def test_200_malformed_bodies_are_refused_with_a_code_each(api: httpx.Client) -> None:
    wrong: list[Any] = [
        None,
        1,
        1.5,
        True,
        [],
        {},
        "",
        " ",
        "CELLS",
        "a b",
        "é",
        "x" * 5000,
        "cells@0",
        "@",
        "a/b",
        "\0",
    ]
    whole = json.dumps({"lora_name": "cells", "lora_path": "cells@1"}).encode()
    bodies = [json.dumps({"lora_name": each}).encode() for each in wrong]
    bodies += [json.dumps({"lora_path": each}).encode() for each in wrong]
    bodies += [
        json.dumps({"lora_name": "cells", "lora_path": each}).encode() for each in wrong if each not in (None, "")
    ]
    bodies += (
        [whole[:end] for end in range(len(whole) - 1)]
        + [whole[start:] for start in range(1, 20)]
        + [whole + b"x", b"\xff", b"[" * 99, b"{" * 60_000]
    )
    bodies += [
        b" " * 70_000 + whole,
        b'{"lora_name":"cells","lora_name":"tiles"}',
        b'{"lora_name":NaN}',
        b"[]",
        b"null",
    ]
    count = 0
    for route in ("load", "unload"):
        for body in bodies:
            if route == "unload" and b'"lora_name": "cells", ' in body and body.endswith(b"}"):
                continue  # it has no path
            answer = api.post(f"/v1/{route}_lora_adapter", content=body)
            assert 400 <= answer.status_code < 500, (route, body[:100], answer.text)
            document = answer.json()
            assert document["error"]["message"] == f"{document['code']}: {document['detail']}"
            count += 1
    assert count >= 200


def test_many_who_load_and_unload_at_once_disturb_nobody(address: str, predicted: Predict, make_png: MakePng) -> None:
    expected = predicted("cells", make_png())[0]
    failed: list[Any] = []

    def churn(number: int) -> None:
        with httpx.Client(base_url=address) as client:
            for turn in range(5):
                answers = [
                    (load if (turn + number) % 2 else unload)(client, lora_name="cells"),
                    client.post("/predict?adapter=cells", content=make_png()),
                ]
                failed.extend(answer.text for answer in answers if answer.status_code != 200)
                top = answers[1].json()["predictions"][0]
                if top["label"] != expected["label"] or abs(top["score"] - expected["score"]) > 1e-6:
                    failed.append(top)

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
