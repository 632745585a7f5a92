"""`lensmount adapters alias|stats`: where an alias points, its thresholds, and the use of an adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def pets(server: Any, lensmount: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An adapter with two versions."""
    monkeypatch.setenv("LENSMOUNT_URL", server.url)
    path = tmp_path / "pets.safetensors"
    for content in (b"one", b"two"):
        path.write_bytes(content)
        assert lensmount("adapters", "push", str(path))[0] == 0
    return "pets"


def test_an_alias_is_set_moved_and_removed(server: Any, lensmount: Any, pets: str) -> None:
    assert lensmount("adapters", "alias", pets, "prod") == (0, "pets:prod now points to pets@2\n", "")
    assert server.aliases[pets] == {"prod": 2}
    document = json.loads(lensmount("adapters", "alias", pets, "prod", "--version", "1", "--json")[1])
    assert document == {"name": pets, "alias": "prod", "version": 1, "trust": None}
    assert server.aliases[pets] == {"prod": 1}
    assert lensmount("adapters", "alias", pets, "prod", "--remove") == (0, "removed pets:prod\n", "")
    assert server.aliases[pets] == {}


def test_thresholds_are_set_kept_while_the_alias_moves_and_taken_back(server: Any, lensmount: Any, pets: str) -> None:
    lensmount("adapters", "alias", pets, "prod", "--version", "1")
    code, out, _ = lensmount("adapters", "alias", pets, "prod", "--accept-confidence", "0.9")
    assert (code, out) == (0, "pets:prod now points to pets@1, accept confidence 0.9\n")  # it stays at version 1
    moved = json.loads(lensmount("adapters", "alias", pets, "prod", "--version", "2", "--json")[1])
    assert moved["trust"] == {"accept_confidence": 0.9, "unfamiliar_percentile": None}
    _, out, _ = lensmount("adapters", "alias", pets, "prod", "--unfamiliar-percentile", "99.5")
    assert out == "pets:prod now points to pets@2, unfamiliar percentile 99.5\n"  # both are replaced
    _, out, _ = lensmount("adapters", "alias", pets, "prod", "--own-thresholds")
    assert out == "pets:prod now points to pets@2\n"
    assert server.alias_trust[pets] == {}


def test_a_new_alias_with_thresholds_points_to_the_newest_version(server: Any, lensmount: Any, pets: str) -> None:
    assert lensmount("adapters", "alias", pets, "prod", "--accept-confidence", "0")[0] == 0
    assert server.aliases[pets] == {"prod": 2}
    assert server.alias_trust[pets]["prod"]["accept_confidence"] == 0


@pytest.mark.parametrize(
    ("options", "message", "fixed"),
    [
        (["--remove", "--version", "1"], "found --remove with another option", ["--remove"]),
        (["--remove", "--own-thresholds"], "found --remove with another option", ["--remove"]),
        (["--own-thresholds", "--accept-confidence", "0.5"], "found --own-thresholds with a", ["--own-thresholds"]),
        (["--unfamiliar-percentile", "0"], "found 0, expected above 0 to 100", ["--unfamiliar-percentile", "0.1"]),
    ],
)
def test_options_that_contradict_each_other_are_refused_and_the_advice_works(
    options: list[str], message: str, fixed: list[str], lensmount: Any, pets: str
) -> None:
    lensmount("adapters", "alias", pets, "prod")
    code, _, err = lensmount("adapters", "alias", pets, "prod", *options)
    assert (code, message in err) == (2, True), err
    assert lensmount("adapters", "alias", pets, "prod", *fixed)[0] == 0


def test_an_alias_is_protected_and_stays_where_it_points(server: Any, lensmount: Any, pets: str) -> None:
    refused = lensmount("adapters", "protect", pets, "prod")
    assert refused[0] == 2
    assert "Fix: lensmount adapters alias pets prod" in refused[2]
    lensmount("adapters", "alias", pets, "prod", "--version", "1")

    assert lensmount("adapters", "protect", pets, "prod")[1] == "pets:prod is protected\n"
    assert (server.protected[pets, "prod"], server.aliases[pets]) == (True, {"prod": 1})
    assert json.loads(lensmount("adapters", "protect", pets, "prod", "--off", "--json")[1])["protected"] is False
    assert server.protected[pets, "prod"] is False
    lensmount("adapters", "alias", pets, "prod", "--version", "2")
    assert server.protected[pets, "prod"] is None  # as before


def test_the_use_of_an_adapter_is_shown_in_words_and_as_json(lensmount: Any, pets: str) -> None:
    code, out, _ = lensmount("adapters", "stats", pets)
    assert code == 0
    words = " ".join(out.split())
    assert "requests 41 with status 200, 1 with status 413" in words
    assert "decisions 80 accept, 2 uncertain" in words
    assert "mean time 12.5 ms" in words
    document = json.loads(lensmount("adapters", "stats", pets, "--json")[1])
    assert (document["requests"], document["images"]) == ({"200": 41, "413": 1}, 82)
    assert lensmount("adapters", "stats", "nothing")[0] == 1
