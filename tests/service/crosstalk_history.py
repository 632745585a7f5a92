"""What each reference meant and when, while many ask and one changes: for the tests of cross-talk."""

from __future__ import annotations

import bisect
import itertools
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tests.service.histories.reference import Reference, Refused

TENANT, ALIAS = "default", "prod"
Meaning = str | int  # a digest, or the status of a refusal


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request: the digest and the scores by label, or the status of a refusal and no scores."""

    meaning: Meaning
    scores: dict[str, float]


class Door(Protocol):
    """A way into a server. Changes return the status of a refusal, or None."""

    def ask(self, reference: str, image: int) -> Reply: ...
    def upload(self, name: str, data: bytes) -> int | None: ...
    def delete(self, name: str) -> int | None: ...
    def undelete(self, name: str) -> int | None: ...
    def point(self, name: str, number: int) -> int | None: ...


@dataclass(slots=True)
class Spell:
    """A time during which a reference may have had a meaning: from the start of a change to the end of the next."""

    meaning: Meaning
    since: float
    until: float = math.inf


class History:
    """The changes of one door, each compared with the reference model, and the spells of every reference."""

    def __init__(self, door: Door, files: dict[str, bytes], names: Sequence[str], seed: int) -> None:
        self._door, self._files, self._names = door, files, names
        self._draw = random.Random(seed)
        self._model = Reference()
        self.references = tuple(f"{name}{end}" for name in names for end in ("", f":{ALIAS}"))
        self._spells = {reference: [Spell(404, -math.inf)] for reference in self.references}
        self.changes = 0

    def upload(self, name: str, digest: str) -> None:
        """A new version of this name with the file of this digest."""
        upload: Callable[[], Any] = lambda: self._model.upload(TENANT, name, digest)  # noqa: E731
        self._change(lambda: self._door.upload(name, self._files[digest]), upload)

    def change(self) -> None:
        """Replace an adapter, delete it, take it back, or point its alias at a version, mostly back at an old one."""
        name, way = self._draw.choice(self._names), self._draw.choice("uuudrrpppp")
        if way == "u":
            self.upload(name, self._draw.choice(sorted(self._files)))
        elif way == "d":
            self._change(lambda: self._door.delete(name), lambda: self._model.delete(TENANT, name, None, False))
        elif way == "r":
            self._change(lambda: self._door.undelete(name), lambda: self._model.undelete(TENANT, name, None))
        else:
            number = self._draw.randint(1, 1 + len(self._model.adapters[TENANT, name].versions))
            self._change(lambda: self._door.point(name, number), lambda: self._model.point(TENANT, name, ALIAS, number))

    def _change(self, at_door: Callable[[], int | None], in_model: Callable[[], Any]) -> None:
        began = time.perf_counter()
        refused = at_door()
        ended = time.perf_counter()
        assert refused == _status(in_model)
        self.changes += 1
        for reference, spells in self._spells.items():
            name, _, alias = reference.partition(":")
            found = _meaning(lambda: self._model.resolve(TENANT, name, None, alias or None))  # noqa: B023
            if found != spells[-1].meaning:
                spells[-1].until = ended
                spells.append(Spell(found, began))

    def allows(self, reference: str, meaning: Meaning, sent: float, received: float) -> bool:
        """Whether the reference may have had this meaning at some time between sending and receiving."""
        spells = self._spells[reference]
        last = bisect.bisect_right(spells, received, key=lambda spell: spell.since)
        candidates = itertools.takewhile(lambda spell: spell.until >= sent, reversed(spells[:last]))
        return any(spell.meaning == meaning for spell in candidates)


def _meaning(resolve: Callable[[], str]) -> Meaning:
    try:
        return resolve()
    except Refused as refused:
        return refused.status


def _status(change: Callable[[], Any]) -> int | None:
    try:
        change()
    except Refused as refused:
        return refused.status
    return None
