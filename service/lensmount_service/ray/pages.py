"""The metrics of all replicas as one page: each line gets the label `replica`, so sums over replicas stay right."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from lensmount_service.ray.messages import Head

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{)?(.*)", re.DOTALL)


def merged(head: Head, pages: Mapping[str, bytes]) -> Head:
    """The response with all pages instead of one. A page is in the text format of Prometheus or of OpenMetrics."""
    body = joined({replica: page.decode() for replica, page in pages.items()}).encode() or head.body
    headers = [(name, value) for name, value in head.headers if name.lower() not in (b"content-length", b"etag")]
    return replace(head, body=body, headers=[*headers, (b"content-length", str(len(body)).encode())])


def joined(pages: Mapping[str, str]) -> str:
    """All samples of a metric follow each other, after its HELP and TYPE of the first page, as the format asks."""
    comments: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for replica, page in sorted(pages.items()):
        family = ""
        for line in page.splitlines():
            if line.startswith("# EOF") or not line.strip():
                continue
            if line.startswith("#"):
                family = line.split(" ", 3)[2]
                known = comments.setdefault(family, [])
                if line.split(" ", 3)[1] not in {told.split(" ", 3)[1] for told in known}:
                    known.append(line)
            else:
                comments.setdefault(family, [])
                samples.setdefault(family, []).append(_labelled(line, replica))
    lines = [line for family in comments for line in (*comments[family], *samples.get(family, []))]
    ended = ["# EOF"] if any(page.rstrip().endswith("# EOF") for page in pages.values()) else []
    return "".join(f"{line}\n" for line in (*lines, *ended))


def _labelled(line: str, replica: str) -> str:
    found = _SAMPLE.fullmatch(line)
    assert found is not None  # our own page
    name, opened, rest = found.groups()
    if opened:
        comma = "" if rest.startswith("}") else ","
        return f'{name}{{replica="{replica}"{comma}{rest}'
    return f'{name}{{replica="{replica}"}}{rest}'
