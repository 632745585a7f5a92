"""Bodies of one image that are wrong in one way each."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

JSON = "application/json"
JUNK = (
    *(b"", b" ", b"{", b"}", b"[]", b"null", b"true", b"1", b"1e999", b'"x"', b"{}", b"{]", b"{,}", b"\xff", b"{\xff}"),
    *(b"\xef\xbb\xbf{}", b'{"inputs":NaN}', b'{"inputs":"","inputs":""}', b'{"inputs":"\\ud800"}', b"[" * 99),
    *(b'{"inputs":' * 99, b'{"a":' + b"9" * 5000 + b"}", b'{"inputs":"aGk="} x', b"{'inputs': 'aGk='}"),
)


def malformed(image: str) -> Iterator[tuple[bytes, str | None]]:
    """More than 200 bodies, each with its Content-Type. `image` is a good one in base64."""
    wrong: Any
    for junk in JUNK:
        yield junk, JSON
        yield junk, None
    for wrong in (
        None,
        1,
        1.5,
        True,
        [],
        {},
        [image],
        {"image": image},
        "",
        " ",
        "=",
        "====",
        "aGk",
        "aGk==",
        "a?",
        "é",
    ):
        yield document(inputs=wrong), JSON
    for wrong in (
        "https://example.org/cell.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "data:image/png;base64,",
        "data:",
    ):
        yield document(inputs=wrong), JSON
    for wrong in (0, -1, 1.5, "1", True, [], {}, 10**30 * -1):
        yield document(inputs=image, parameters={"top_k": wrong}), JSON
    for wrong in ("sigmoid", "none", "SOFTMAX", "", "relu", 1, True, [], {}):
        yield document(inputs=image, parameters={"function_to_apply": wrong}), JSON
    for wrong in (1, "x", [], True, [{}], {"topk": 1}, {"top_k": 1, "x": None}, {"": 1}):
        yield document(inputs=image, parameters=wrong), JSON
    whole = document(inputs=image, parameters={"top_k": 1})
    for part in range(1, 60):
        yield whole[: len(whole) * part // 60], JSON
    for part in range(1, 20):
        yield document(inputs=image[: len(image) * part // 60]), JSON
    chance = random.Random(0)
    for _ in range(40):
        yield (
            chance.randbytes(chance.randrange(1, 300)),
            chance.choice((JSON, None, "image/png", "application/x-image")),
        )
    yield b'{"inputs":[' + b"{}," * 10**6 + b"{}]}", JSON


def document(**members: Any) -> bytes:
    return json.dumps(members, ensure_ascii=False).encode()
