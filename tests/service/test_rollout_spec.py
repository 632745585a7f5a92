from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import scipy.stats

from lensmount_service.rollout_spec import Canary, Rollout, Rules, Shadow, salt_of, share, stored_rollout

ROLLOUT = Rollout(
    "0" * 31 + "1", 7, Canary(8, 10, "header:Patient"), Shadow(9, 0.2), Rules(p99=None), 1.5, "reader1", "s3"
)


def changed(**members: Any) -> str:
    return json.dumps({**json.loads(ROLLOUT.dump()), **members})


def test_a_share_is_the_start_of_a_sha256() -> None:
    """The digests are those that `printf 's3 request-1' | sha256sum` prints."""
    assert share("s3", "request-1") == pytest.approx(0x435B7ECD556A22DF / 2**64, rel=1e-15)
    assert share("s3", "ü") == pytest.approx(0x92C4FF16B78EF511 / 2**64, rel=1e-15)


def test_shares_are_uniform_and_those_of_two_rollouts_are_independent() -> None:
    first = [share("a", str(number)) for number in range(5000)]
    second = [share("b", str(number)) for number in range(5000)]
    assert scipy.stats.kstest(first, "uniform").pvalue > 0.001
    assert abs(scipy.stats.pearsonr(first, second).statistic) < 0.05
    assert min(first) >= 0
    assert max(first) < 1


def test_any_text_is_a_key() -> None:
    for key in ("", " ", "\x00", "\udce9", "k" * 100_000):
        assert 0 <= share("s3", key) < 1


@pytest.mark.parametrize(("percent", "taken"), [(0, 0), (100, 1000)])
def test_nobody_is_in_a_canary_of_0_percent_and_everybody_in_one_of_100(percent: float, taken: int) -> None:
    rollout = replace(ROLLOUT, canary=Canary(8, percent))
    assert sum(rollout.takes(str(number)) for number in range(1000)) == taken


def test_a_tenth_of_ten_thousand_keys_is_in_a_canary_of_10_percent() -> None:
    assert 910 <= sum(ROLLOUT.takes(str(number)) for number in range(10_000)) <= 1090


def test_a_higher_percentage_keeps_those_who_are_in() -> None:
    more = replace(ROLLOUT, canary=Canary(8, 30))
    taken = Counter((ROLLOUT.takes(str(number)), more.takes(str(number))) for number in range(2000))
    assert taken[True, False] == 0
    assert taken[False, True] > 0


def test_another_candidate_has_another_salt() -> None:
    salts = {salt_of(*of) for of in [("a", "prod", "x"), ("b", "prod", "x"), ("a", "next", "x"), ("a", "prod", "y")]}
    assert len(salts) == 4


def test_a_rollout_is_the_same_after_dump_and_parse() -> None:
    assert Rollout.parse(ROLLOUT.dump()) == ROLLOUT
    plain = Rollout("f" * 32, 1, shadow=Shadow(2))
    assert Rollout.parse(plain.dump()) == plain
    assert stored_rollout(plain.dump()) == plain


def test_the_candidate_is_the_canary_or_else_the_shadow() -> None:
    assert ROLLOUT.candidate == 8
    assert replace(ROLLOUT, canary=None).candidate == 9
    assert ROLLOUT.versions == {7, 8, 9}


def test_a_shadow_never_answers() -> None:
    assert [ROLLOUT.side_of(version) for version in (7, 8, 9)] == ["stable", "canary", "stable"]
    assert not replace(ROLLOUT, canary=None).takes("x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{",
        "{}",
        changed(more=1),
        changed(id="x"),
        changed(stable="7"),
        changed(stable=0),
        changed(canary={"version": 8}),
        changed(canary={"version": 8, "percent": 101}),
        changed(canary={"version": 8, "percent": "10"}),
        changed(canary={"version": 8, "percent": float("nan")}),
        changed(canary={"version": 8, "percent": 10, "key": "header:"}),
        changed(canary={"version": 8, "percent": 10, "key": "request\n"}),
        changed(shadow={"version": 9, "sample": 1.1}),
        changed(rules={"errors": -0.1}),
        changed(rules={"unknown": 1}),
    ],
)
def test_a_rollout_that_was_not_written_here_is_refused_and_a_stored_one_counts_as_none(text: str) -> None:
    with pytest.raises(ValueError, match="Rollout"):
        Rollout.parse(text)
    assert stored_rollout(text) is None


def test_the_shadow_computes_its_sample_of_the_requests_that_the_canary_leaves() -> None:
    rollout = Rollout("1" * 32, 7, Canary(8, 10), Shadow(9, 0.1), salt="s")
    keys = [f"request-{number}" for number in range(10_000)]
    sampled = [key for key in keys if rollout.samples(key)]
    assert 910 <= len(sampled) <= 1090
    assert 0.05 < sum(map(rollout.takes, sampled)) / len(sampled) < 0.15  # and not the same requests as the canary's
    assert not any(replace(rollout, shadow=None).samples(key) for key in keys)
