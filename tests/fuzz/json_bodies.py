"""JSON bodies as hostile clients write them: changed in structure, in text, in encoding and in bytes."""

from __future__ import annotations

import json
import random
from typing import Any

from tests.fuzz.mutate import changed, mutated

DIGEST = "sha256:" + "ab" * 32
DOCUMENTS: dict[str, Any] = {
    "JobSubmission": {
        "dataset": "cells@2",
        "adapter": "malaria",
        "epochs": 3,
        "lr": 0.001,
        "alias": "prod",
        "margin": 0.5,
    },
    "AliasTarget": {
        "version": 2,
        "trust": {"accept_confidence": 0.9, "unfamiliar_percentile": None},
        "protected": True,
    },
    "GivenLabels": {"who": "reader1", "labels": {DIGEST: "Parasitized"}},
    "DatasetEdits": {"relabel": {"cat/1.png": "dog"}, "exclude": ["cat/2.png", "cat/3.png"]},
    "NewToken": {
        "name": "reader1",
        "scopes": ["predict"],
        "tenant": None,
        "lifetime_s": 60.5,
        "quotas": {"queue_share": 0.5},
    },
    "PredictRequest": {"tasks": [{"id": 1, "data": {"image": "https://host/a.png"}}], "label_config": "<View/>"},
    "Event": {
        "action": "ANNOTATION_CREATED",
        "task": {"id": "1", "data": {}},
        "annotation": {"result": [{"from_name": "choice", "value": {"choices": ["a"]}}], "completed_by": {"id": 3}},
        "project": {"label_config": ""},
    },
}
JSON_TYPES = (
    *[b"application/json"] * 12,
    *(b"application/json; charset=utf-16", b"APPLICATION/JSON ;", b"application/merge-patch+json", b"text/json", None),
    *(b"application/json, application/json", b"application/x-www-form-urlencoded", b"\xff", b"multipart/form-data"),
)
_TOKENS = (
    *(b"NaN", b"-Infinity", b"1e999", b"-0", b"00", b"1.", b".5", b"+1", b"0x1", b"9" * 400, b"9" * 5000, b"1e-400"),
    *(b"null", b"true", b"True", b"undefined", b"'", b'"', b"\\", b"\\u", b"\\ud800", b"\\udc00\\ud800", b"\\u0000"),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"//",
        b"/**/",
        b"\0",
        b"\x1f",
        b"\x7f",
        b"\x0b",
        b"\xc2\xa0",
        b"\xe2\x80\xa8",
    ),
    *(
        b"\xff",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xef\xbb\xbf",
        b"{}",
        b"[[",
        b"]]",
        b"[" * 70,
        b" " * 5000,
    ),
)


def drawn_json(form: str, draw: random.Random) -> bytes:
    """The form's document with some changes of its values, its text, its encoding and its bytes."""
    document = DOCUMENTS[form]
    for _ in range(draw.choice((0, 1, 1, 2, 3))):
        document = changed(document, draw)
    if draw.random() < 0.05:
        for _ in range(draw.choice((5, 62, 63, 64, 65, 200, 3000))):
            document = draw.choice(([document], [1, document], {"a": document}))
    text = _written(document, draw)
    if draw.random() < 0.3:
        text = _with_tokens(text, draw)
    if draw.random() < 0.1:
        text = _encoded(text, draw)
    return mutated(text, draw) if draw.random() < 0.15 else text


def _written(document: Any, draw: random.Random) -> bytes:
    """Nesting beyond the writer's own limit is written by hand."""
    options: dict[str, Any] = {"ensure_ascii": draw.random() < 0.5, "indent": draw.choice((None, None, 0, 3))}
    try:
        return json.dumps(document, **options).encode("utf-8", "surrogatepass")
    except RecursionError:
        depth = draw.choice((100, 1000, 5000))
        return b"[" * depth + b"]" * depth


def _with_tokens(text: bytes, draw: random.Random) -> bytes:
    """Tokens of JSON and of what is nearly JSON, put in or put in place of others; or a pair doubled."""
    out = bytearray(text)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(out) + 1)
        if draw.random() < 0.25 and b'"' in out:
            start, end = out.find(b'"'), out.find(b",", place)
            out[start:start] = out[start : max(end, start)] + b","
        else:
            out[place : place + draw.choice((0, 0, 1, 2, 5))] = draw.choice(_TOKENS)
    return bytes(out)


def _encoded(text: bytes, draw: random.Random) -> bytes:
    codec = draw.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "latin-1", "cp037"))
    return text.decode("utf-8", "replace").encode(codec, "replace")


def in_chunks(body: bytes, draw: random.Random) -> list[bytes]:
    """The body as it might arrive: whole, in a few pieces, or byte by byte."""
    most = draw.choice((len(body), len(body), 1000, 64, 7, 1)) if len(body) < 3000 else len(body)
    return [body[start : start + most] for start in range(0, len(body), max(1, most))]
