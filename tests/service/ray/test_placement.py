"""lensmount_service.ray.placement: which replica answers. Expected numbers come from counting and from binomials."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from lensmount_service.ray.placement import SLACK, SMALL_LOAD, ranked

REPLICAS = [f"replica-{number}" for number in range(8)]
IDLE = dict.fromkeys(REPLICAS, 0)
DIGESTS = [f"sha256:{number:064x}" for number in range(4000)]


def homes(replicas: list[str]) -> dict[str, str]:
    return {digest: ranked(digest, dict.fromkeys(replicas, 0))[0] for digest in DIGESTS}


def test_adapters_are_shared_out_evenly() -> None:
    shares = Counter(homes(REPLICAS).values())
    mean = len(DIGESTS) / len(REPLICAS)  # 500, with a standard deviation of sqrt(500 * 7/8) = 21
    assert all(abs(shares[replica] - mean) < 4 * 21 for replica in REPLICAS)


def test_a_replica_that_leaves_moves_only_its_own_adapters_and_spreads_them_over_all_others() -> None:
    before, after = homes(REPLICAS), homes(REPLICAS[1:])
    moved = [digest for digest in DIGESTS if before[digest] != after[digest]]
    assert {before[digest] for digest in moved} == {REPLICAS[0]}
    assert len(moved) == Counter(before.values())[REPLICAS[0]]
    assert {after[digest] for digest in moved} == set(REPLICAS[1:])


def test_a_replica_that_joins_takes_adapters_from_the_others_and_moves_nothing_else() -> None:
    before, after = homes(REPLICAS[1:]), homes(REPLICAS)
    assert {after[digest] for digest in DIGESTS if before[digest] != after[digest]} == {REPLICAS[0]}


def test_the_order_is_the_same_in_every_process_and_for_every_order_of_the_replicas() -> None:
    code = f"from lensmount_service.ray.placement import ranked; print(ranked({DIGESTS[0]!r}, {IDLE!r}))"
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert elsewhere.strip() == str(ranked(DIGESTS[0], IDLE))
    assert ranked(DIGESTS[0], dict(reversed(IDLE.items()))) == ranked(DIGESTS[0], IDLE)


def test_a_home_keeps_its_adapters_up_to_the_bound_and_gives_one_away_above_it() -> None:
    home, second, third, *_ = ranked(DIGESTS[0], IDLE)
    bound = SLACK * (8 * 20 + 1) / 8  # 25.2 for a mean of 20
    level = dict.fromkeys(REPLICAS, 20)
    assert ranked(DIGESTS[0], level | {home: int(bound) - 1})[0] == home
    assert ranked(DIGESTS[0], level | {home: 40, second: 21, third: 22})[0] == second
    assert ranked(DIGESTS[0], level | {home: 40, second: 22, third: 21})[0] == third


def test_the_third_choice_is_the_least_loaded_of_all() -> None:
    order = ranked(DIGESTS[0], IDLE)
    loads = dict.fromkeys(order[:3], 50) | dict.fromkeys(order[3:], 20) | {order[6]: 19}
    assert ranked(DIGESTS[0], loads)[0] == order[6]


def test_a_few_requests_stay_together_while_all_others_are_idle() -> None:
    home = ranked(DIGESTS[0], IDLE)[0]
    assert ranked(DIGESTS[0], IDLE | {home: SMALL_LOAD - 1})[0] == home
    assert ranked(DIGESTS[0], IDLE | {home: SMALL_LOAD})[0] != home


def test_those_that_were_tried_come_last() -> None:
    home, second, *_ = ranked(DIGESTS[0], IDLE)
    again = ranked(DIGESTS[0], IDLE, [home])
    assert again[0] == second
    assert again[-1] == home
    assert sorted(again) == sorted(REPLICAS)
    assert sorted(ranked(DIGESTS[0], IDLE, REPLICAS)) == sorted(REPLICAS)
    assert ranked(DIGESTS[0], {}) == []


def test_without_an_adapter_the_least_loaded_comes_first_and_equals_take_turns() -> None:
    assert ranked("any", IDLE | {"replica-3": -1}, at_home=False)[0] == "replica-3"
    firsts = Counter(ranked(f"request {number}", IDLE, at_home=False)[0] for number in range(800))
    assert set(firsts) == set(REPLICAS)


def simulated(requests: Iterator[str], in_progress: int) -> dict[str, Counter[str]]:
    """Where each adapter's requests go while the newest `in_progress` requests are open: adapter to replica counts."""
    loads, opened = dict(IDLE), list[str]()
    went: dict[str, Counter[str]] = {}
    for digest in requests:
        replica = ranked(digest, loads)[0]
        loads[replica] += 1
        opened.append(replica)
        went.setdefault(digest, Counter())[replica] += 1
        if len(opened) > in_progress:
            loads[opened.pop(0)] -= 1
    return went


@pytest.fixture(scope="module")
def went() -> dict[str, Counter[str]]:
    """Half of all requests are for one adapter, the others for 200 adapters in turn."""
    tail = DIGESTS[1:201]
    pairs = ((DIGESTS[0], tail[number % len(tail)]) for number in range(8000))
    return simulated((digest for pair in pairs for digest in pair), in_progress=160)


def test_a_hot_adapter_spreads_over_replicas_and_none_gets_more_than_the_bound(went: dict[str, Counter[str]]) -> None:
    assert len(went[DIGESTS[0]]) >= 4
    total = sum(went.values(), Counter())
    mean = total.total() / len(REPLICAS)
    assert max(total.values()) <= 1.3 * mean  # SLACK, and the start from an idle state


def test_the_tail_stays_at_home_while_a_hot_adapter_spreads(went: dict[str, Counter[str]]) -> None:
    at_home = sum(counts[ranked(digest, IDLE)[0]] for digest, counts in went.items() if digest != DIGESTS[0])
    all_of_them = sum(counts.total() for digest, counts in went.items() if digest != DIGESTS[0])
    assert at_home >= 0.75 * all_of_them  # by chance it would be an eighth
