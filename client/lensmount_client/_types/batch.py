"""What a batch run left: a file with one row for each image and adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lensmount_client._types.results import AdapterId

BATCH_COLUMNS = (  # of the file, in their order
    *("file", "adapter", "label", "score", "scores", "decision", "confidence", "set", "percentile"),
    *("error", "detail", "version", "digest", "fingerprint"),
)


@dataclass(frozen=True)
class BatchResult:
    """`failed` images could not be read: their rows have an `error`. `resumed` were done by an earlier run."""

    out: Path
    images: int
    rows: int
    failed: int
    resumed: int
    adapters: tuple[AdapterId, ...]  # the versions that answered, from the first image to the last

    def __str__(self) -> str:
        """Short: "results.parquet: 2,000 rows, 3 images failed"."""
        failed = f", {self.failed:,} images failed" if self.failed else ""
        return f"{self.out}: {self.rows:,} rows{failed}"
