"""The Markdown tables of training.py, from its finished runs."""

from __future__ import annotations

import re
import statistics

from .training_tasks import METHODS, PARTS, RACERS, SHORT, TASKS, Run


def show(runs: list[Run]) -> None:
    for task in TASKS:
        own = [run for run in runs if run.task == task]
        show_race(task, [run for run in own if run.contender in RACERS])
        show_table(task, [run for run in own if run.contender not in RACERS])


def show_race(task: str, runs: list[Run]) -> None:
    rounds = [
        (mine, half, peer)
        for mine in runs
        for half in runs
        for peer in runs
        if (mine.contender, half.contender, peer.contender) == ("ours", "ours, short", "peft")
        and mine.seed == half.seed == peer.seed
    ]
    if not rounds:
        return
    epochs = TASKS[task].settings["epochs"]
    print(f"\n{task}: ours against PEFT in a plain loop, {len(rounds)} seeds, {epochs} epochs\n")
    print("| figure | min | median | max |\n|---|---:|---:|---:|")
    rows = {
        "PEFT, s": [p.seconds for _, _, p in rounds],
        "ours, s": [m.seconds for m, _, _ in rounds],
        "ours, short, s": [h.seconds for _, h, _ in rounds],
        "PEFT / ours": [p.seconds / m.seconds for m, _, p in rounds],
        "PEFT / ours, short": [p.seconds / h.seconds for _, h, p in rounds],
        "PEFT, balanced accuracy on validation": [p.validation for _, _, p in rounds],
        "ours": [m.validation for m, _, _ in rounds],
        "ours, short": [h.validation for _, h, _ in rounds],
        "PEFT, balanced accuracy on test": [p.test for _, _, p in rounds],
        "ours on test": [m.test for m, _, _ in rounds],
        "ours, short, on test": [h.test for _, h, _ in rounds],
    }
    for name, values in rows.items():
        digits = 3 if max(values) <= 1 else 1
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"| {name} | {low:.{digits}f} | {middle:.{digits}f} | {high:.{digits}f} |")


def show_table(task: str, runs: list[Run]) -> None:
    if not runs:
        return
    settings = re.sub(
        r"[{}']", "", str({k: v for k, v in TASKS[task].settings.items() if k not in ("group_regex", *PARTS)})
    )
    print(f"\n{task}: every method ({settings})\n")
    print("| method | balanced accuracy, test: mean (min to max) | trained parameters | file | seconds |")
    print("|---|---|---:|---:|---:|")
    for method in (name + length for name in METHODS for length in ("", SHORT)):
        own = [run for run in runs if run.contender == method]
        if own:
            found = [run.test for run in own]
            size = own[0].file_bytes / 1e6
            print(
                f"| {method} | {statistics.mean(found):.3f} ({min(found):.3f} to {max(found):.3f}), {len(own)} seeds "
                f"| {own[0].parameters:,} | {size:.2f} MB | {statistics.median(run.seconds for run in own):.0f} |"
            )
