"""The study, its tables and its plots, on a small fleet; and the twin that is compared with a real server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.scale import tables
from benchmarks.scale.costs import MACHINE, MachineCosts
from benchmarks.scale.plots import PLOTS, draw
from benchmarks.scale.server import load
from benchmarks.scale.study import CVS, FOLDER, ROUTERS, ZIPFS, Case, Row, cases, hashing, read, run, write
from benchmarks.scale.validate import WORKLOADS, Twin, capacity

from lensmount_adapters.runners.costs import Group, LinearCost
from lensmount_client._bench.load import Mix

COSTS = MachineCosts.read()
SIZE = 6, 2000, 900


@pytest.fixture(scope="module")
def rows() -> dict[str, list[Row]]:
    """One run of each router, in the place of all that differ only in load or workload."""
    once = {name: run(Case(name, *SIZE)) for name in ROUTERS}

    def row(case: Case) -> Row:
        return replace(once[case.router], zipf=case.zipf, cv=case.cv, rate=case.rate)

    return {table: [row(case) for case in wanted] for table, wanted in cases(*SIZE).items()}


def test_the_costs_of_the_machine_are_read_as_they_were_written(tmp_path: Path) -> None:
    COSTS.write(tmp_path / "machine.json")
    assert MachineCosts.read(tmp_path / "machine.json") == COSTS
    assert (tmp_path / "machine.json").read_bytes() == MACHINE.read_bytes()
    assert set(COSTS.calibrated) == {"trunk", "hot", "merged", "mixed"}


def test_a_batch_costs_what_its_trunk_its_branches_and_its_python_cost() -> None:
    line = LinearCost(0.0, 0.001)
    costs = COSTS.scaled(
        trunk=line, hot=line, merged=line, mixed=LinearCost(1.0, 1.0), whole=line, batch=LinearCost(0.002, 0.0005)
    ).scaled(merge_s=0.01)
    three = costs.batch_s([Group(2, True, True), Group(1, False, True), Group(1, True, True)], False)
    assert three == pytest.approx(0.002 + 3 * 0.0005 + 4 * 0.001 + 3 * 0.001 + 0.01 + 0.001)
    assert costs.batch_s([Group(4, True, True)], True) == pytest.approx(0.0025 + 0.004)


def test_every_router_is_in_every_table_of_the_study_and_the_tables_are_read_as_written(
    rows: dict[str, list[Row]], tmp_path: Path
) -> None:
    assert {row.router for row in rows["routers"]} == {row.router for row in rows["loads"]} == set(ROUTERS)
    write(tmp_path / "routers.csv", rows["routers"])
    found = read(tmp_path / "routers.csv")
    assert [row.router for row in found] == [row.router for row in rows["routers"]]
    assert [row.p99 for row in found] == pytest.approx([row.p99 for row in rows["routers"]], rel=1e-3)
    assert all(row.hot + row.memory + row.file + row.remote == pytest.approx(1, abs=1e-3) for row in found)


def test_the_plots_are_drawn_from_the_tables_and_the_same_each_time(rows: dict[str, list[Row]], tmp_path: Path) -> None:
    for table, found in rows.items():
        write(tmp_path / f"{table}.csv", found)
    once = [path.read_bytes() for path in draw(tmp_path, tmp_path)]
    assert [path.read_bytes() for path in draw(tmp_path, tmp_path)] == once
    assert len(once) == len(PLOTS)
    assert all(b"bounded load" in image or b"hot" in image for image in once)


def test_a_router_that_knows_where_adapters_are_finds_more_of_them_in_memory() -> None:
    small = 20, 20_000, 5000
    anywhere, ours = (run(Case(name, *small, rate=25.0)) for name in ("random", "bounded load"))
    assert anywhere.hot + anywhere.memory < 0.7
    assert ours.hot + ours.memory > 0.9
    assert ours.engine_ms < anywhere.engine_ms


def test_the_twin_of_a_server_answers_what_is_offered_below_its_capacity_and_no_more_beyond() -> None:
    asked = WORKLOADS[1]
    most = capacity(COSTS, asked)
    twin = Twin(COSTS)
    given = {"duration_s": 10.0, "warmup_s": 2.0}
    per_s, latencies, refused = twin.run(load("http://simulated", 1, Mix.one, rate=0.6 * most, **given))
    assert per_s == pytest.approx(0.6 * most, rel=0.1)
    assert refused == 0
    assert latencies[0] >= COSTS.request_s + COSTS.whole(1)
    per_s, _, refused = twin.run(load("http://simulated", 1, Mix.one, rate=3 * most, **given))
    assert per_s == pytest.approx(most, rel=0.05)
    assert refused > 0


def test_there_are_twelve_workloads_with_bursts_and_many_adapters_among_them() -> None:
    assert len(WORKLOADS) == len(set(WORKLOADS)) == 12
    assert {asked.adapters for asked in WORKLOADS} == {1, 4, 16, 64}
    assert any(asked.cv > 1 for asked in WORKLOADS)
    assert hashing(*SIZE[:2]).adapters == 2000


def test_the_tables_of_the_page_are_those_of_the_committed_results() -> None:
    text = tables.DOC.read_text()
    assert tables.written(text, FOLDER) == text


def test_the_committed_tables_have_every_router_and_workload() -> None:
    found = read(FOLDER / "routers.csv")
    assert [(row.zipf, row.cv, row.router) for row in found] == [
        (zipf, cv, name) for zipf in ZIPFS for cv in CVS for name in ROUTERS
    ]
