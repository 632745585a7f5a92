"""Size of an installation with some extras: `python benchmarks/shared/install_size.py --extras serve,train`.

It adds up the installed files of every package that these extras need on this machine, as pip recorded them. All of
them must be installed here (`make install`). Bytecode, which the Docker image has as well, is not counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CUDA = ("nvidia-", "cuda-", "triton")
"""Packages that only the CUDA build of torch needs."""


def needed(name: str, extras: frozenset[str], seen: dict[str, Distribution]) -> None:
    """Add the packages that `name[extras]` needs on this machine to `seen`."""
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        wanted = [extra for extra in extras or {""} if _holds(requirement, extra)]
        key = canonicalize_name(requirement.name)
        if not wanted or (key in seen and not requirement.extras):
            continue
        if key != "lensmount":
            try:
                seen[key] = distribution(requirement.name)
            except PackageNotFoundError:
                raise SystemExit(f"found no {key}, expected it installed. Fix: make install") from None
        needed(requirement.name, frozenset(requirement.extras), seen)


def _holds(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def files_of(package: Distribution) -> Iterator[int]:
    """The size in bytes of each file of a package, without bytecode."""
    for file in package.files or ():
        path = Path(str(package.locate_file(file)))
        if "__pycache__" not in path.parts and path.is_file():
            yield path.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", default="serve", help="such as serve,train; empty for the client alone")
    parser.add_argument("--largest", type=int, default=8)
    given = parser.parse_args()
    seen: dict[str, Distribution] = {}
    needed("lensmount", frozenset(filter(None, given.extras.split(","))), seen)
    sizes = sorted(((sum(files_of(package)), name) for name, package in seen.items()), reverse=True)
    print(f"| package | MB |\n|---|---|\n| all {len(sizes)} packages | {sum(size for size, _ in sizes) / 1e6:,.0f} |")
    cuda = sum(size for size, name in sizes if name.startswith(CUDA))
    print(f"| of these for CUDA, without torch itself | {cuda / 1e6:,.0f} |")
    for size, name in sizes[: given.largest]:
        print(f"| {name} | {size / 1e6:,.0f} |")


if __name__ == "__main__":
    main()
