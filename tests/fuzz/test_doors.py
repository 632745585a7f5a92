"""JSON and multipart bodies are read or refused by a small problem document: no other exception, no hang, no growth.

`make soak` runs the full counts of the same code.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from pydantic_core import from_json
from tests.fuzz.doors import Doors, problem_of
from tests.fuzz.json_bodies import DOCUMENTS, JSON_TYPES, drawn_json, in_chunks
from tests.fuzz.multipart_bodies import drawn_form
from tests.fuzz.mutate import cases
from tests.fuzz.watch import watched


def test_mutated_json_is_read_by_its_form_or_refused_by_a_small_problem() -> None:
    async def check() -> Counter[str]:
        doors, codes = Doors(), Counter[str]()
        with watched("JSON bodies") as watch:
            for seed in cases(4_000, 50_000):
                watch.touch()
                draw = random.Random(seed)
                form = draw.choice(sorted(DOCUMENTS))
                chunks = in_chunks(drawn_json(form, draw), draw)
                status, answer = await doors.send(f"/{form}", draw.choice(JSON_TYPES), chunks)
                codes["read" if status == 200 else problem_of(status, answer)] += 1
        return codes

    codes = asyncio.run(check())

    assert min(codes[code] for code in ("read", "bad_request", "invalid_request", "duplicate_key")) > 20, codes


def test_what_we_accept_as_json_another_parser_accepts_with_the_same_value() -> None:
    """The other one is jiter, in Rust: what two parsers read in two ways can be used to get past one of them."""

    async def check() -> int:
        doors, accepted = Doors(), 0
        with watched("JSON texts") as watch:
            for seed in cases(4_000, 50_000):
                watch.touch()
                draw = random.Random(seed)
                body = drawn_json(draw.choice(sorted(DOCUMENTS)), draw)
                status, answer = await doors.send("/value", b"application/json", [body])
                if status != 200:
                    problem_of(status, answer)
                    continue
                accepted += 1
                assert repr(from_json(body, allow_inf_nan=False)) == repr(doors.read), seed
        return accepted

    assert asyncio.run(check()) > 500


def test_mutated_multipart_bodies_are_read_without_an_invented_byte_or_refused_by_a_small_problem() -> None:
    async def check() -> Counter[str]:
        doors, codes = Doors(), Counter[str]()
        with watched("multipart bodies") as watch:
            for seed in cases(4_000, 50_000):
                watch.touch()
                draw = random.Random(seed)
                form, body = drawn_form(draw)
                status, answer = await doors.send("/parts", form.content_type, in_chunks(body, draw))
                codes["read" if status == 200 else problem_of(status, answer)] += 1
                if status != 200:
                    assert not form.plain, seed
                    continue
                parts, fields = doors.read
                assert all(part.data in body for part in parts), seed
                assert all(text.encode() in body or text.encode("latin-1") in body for text in fields.values()), seed
                if form.plain:
                    assert [part.data for part in parts] == [
                        part.data for part in form.parts if b"filename" in part.head[0]
                    ]
        return codes

    codes = asyncio.run(check())

    wanted = ("read", "multipart_malformed", "multipart_truncated", "missing_part", "expected_file", "batch_too_large")
    assert min(codes[code] for code in wanted) > 20, codes
