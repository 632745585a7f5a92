"""Say which labels of the held-out images are likely wrong, by the scores of the new adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lensmount_adapters.metrics.scored import ScoredPart
from lensmount_adapters.quality.label_issues import find_label_issues

FEWEST = 20  # held-out images: fewer have no reliable mean score of a class
_NAMED = 3


def notes_about_labels(scored: Mapping[str, ScoredPart], labels: Sequence[str]) -> tuple[str, ...]:
    """Return one sentence if confident learning doubts labels of the validation and test parts.

    The adapter was not fitted on these images, so its scores need no further pass: `quality/label_issues.py`.
    """
    parts = list(scored.values())
    paths = [path for part in parts for path in part.paths]
    if len(paths) < FEWEST:
        return ()
    truth = torch.cat([part.truth for part in parts]).cpu().numpy()
    issues = find_label_issues(truth, torch.cat([part.scores for part in parts]).detach().cpu().double().numpy())
    doubted = [int(row) for row in issues.ranked() if issues.flags[row]]
    if not doubted:
        return ()
    examples = ", ".join(
        f"{paths[row][:120]} ({labels[truth[row]][:40]!r}, likelier {labels[issues.suggested[row]][:40]!r})"
        for row in doubted[:_NAMED]
    )
    return (
        f"{len(doubted)} label(s) of the {len(paths)} held-out images are likely wrong, such as {examples}. "
        "Fix: look at them; `lensmount review` lists those of all images",
    )
