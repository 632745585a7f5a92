"""`python -m tests.mutants` tries every planted bug, `python -m tests.mutants NAME ...` some of them."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.planted import ROOT, OutOfDate, bugs
from tests.mutants.run import Result, copied, problem_without_bugs, try_bug


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="of bugs; all if none is given")
    parser.add_argument("--jobs", type=int, default=1, help="bugs at the same time")
    wanted = parser.parse_args()
    started, listed = time.monotonic(), bugs()
    if unknown := set(wanted.names) - {bug.name for bug in listed}:
        sys.exit(f"found no planted bug {min(unknown)!r}. Fix: one of {', '.join(bug.name for bug in listed)}")
    chosen = [bug for bug in listed if not wanted.names or bug.name in wanted.names]
    with tempfile.TemporaryDirectory(prefix="lensmount-mutants-") as name:
        copy = copied(ROOT, Path(name) / "sound")
        say(f"running the tests of {len(chosen)} bugs on the unchanged source ...")
        if problem := problem_without_bugs(copy, (test for bug in chosen for test in bug.tests)):
            sys.exit(problem)
        with ThreadPoolExecutor(wanted.jobs) as pool:
            tried = [pool.submit(try_bug, copy, Path(name) / bug.name, bug) for bug in chosen]
            try:
                results = [shown(future.result()) for future in tried]
            except OutOfDate as error:
                pool.shutdown(cancel_futures=True)
                sys.exit(str(error))
    caught = sum(not result.problem for result in results)
    say(f"\n{table(results)}\n\n{caught} of {len(results)} caught in {time.monotonic() - started:.0f} s")
    sys.exit(int(caught < len(results)))


def shown(result: Result) -> Result:
    say(f"{'caught' if not result.problem else 'NOT CAUGHT':<12}{result.bug.name} {result.problem}".rstrip())
    return result


def table(results: list[Result]) -> str:
    width = max(len(result.bug.name) for result in results)
    return "\n".join(
        f"{result.bug.name:<{width}}  {'no ' if result.problem else 'yes'}  {result.seconds:5.1f} s  "
        f"{result.bug.tests[0].rpartition('/')[2]}"
        for result in results
    )


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
