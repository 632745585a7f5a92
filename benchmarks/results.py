"""Prints everything in results.json as tables.

python benchmarks/results.py
"""

from __future__ import annotations

import json
from typing import Any

from shared.results import RESULTS, Row, show  # type: ignore[import-not-found]  # in this folder; mypy starts at the root


def main() -> None:
    document: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for benchmark, section in document.items():
        print(f"\n{benchmark} ({section['measured_at']}, {section['command']}, commit {section['commit']})\n")
        show([Row(**row) for row in section["rows"]])


if __name__ == "__main__":
    main()
