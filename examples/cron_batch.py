"""Label a day's images, and list those that a person should look at. A line of a crontab, every night at two:

0 2 * * * LENSMOUNT_URL=http://gpu-box:8000 python examples/cron_batch.py /data/today malaria /data/results

Run again on the same day, it writes the same file again. Exit status: 0 all labelled, 1 some images failed.
"""

from __future__ import annotations

import csv
import sys
from datetime import date
from pathlib import Path

from lensmount_client import Client

COLUMNS: list[str] = ["file", "label", "score", "decision", "version", "digest", "request_id", "error", "detail"]


def batch(images: Path, adapter: str, results: Path, client: Client) -> int:
    """Write DATE.csv with all rows and DATE-look-at.csv with those that were not accepted. Returns the failures."""
    rows = client.predict_many(images, adapter).to_records()
    doubtful = [row for row in rows if row["error"] or row["decision"] not in ("accept", None)]
    results.mkdir(parents=True, exist_ok=True)
    for name, chosen in ((f"{date.today()}.csv", rows), (f"{date.today()}-look-at.csv", doubtful)):
        with (results / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(chosen)
    return sum(row["error"] is not None for row in rows)


if __name__ == "__main__":
    with Client() as client:
        sys.exit(1 if batch(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), client) else 0)
