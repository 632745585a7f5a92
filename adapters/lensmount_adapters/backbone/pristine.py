"""Where the untouched values of the backbone's tensors come from: clones, the live ones, or the weights read anew."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from torch import Tensor


class Pristine(Protocol):
    """Asked for the base values of tensors, before they are written for the first time and ever after."""

    def values(self, names: Iterable[str]) -> Mapping[str, Tensor]:
        """The base values of the named tensors, whatever is mounted; safe from any thread."""
        ...

    def kept(self) -> Mapping[str, Tensor]:
        """What stays in memory for it now; safe from any thread, and to iterate over while others ask for values."""
        ...


class Clones:
    """The default: a clone of a tensor is made when it is first asked for, and kept.

    A tensor is asked for before it is written, so a tensor without a clone was never written. `check(name, clone)`
    raises where a clone is not what the tensor was at start.
    """

    def __init__(self, tensors: Mapping[str, Tensor], check: Callable[[str, Tensor], None]) -> None:
        self._tensors = tensors
        self._check = check
        self._clones: dict[str, Tensor] = {}
        self._lock = threading.Lock()

    def values(self, names: Iterable[str]) -> Mapping[str, Tensor]:
        with self._lock:
            return {name: self._clones[name] if name in self._clones else self._clone(name) for name in names}

    def kept(self) -> Mapping[str, Tensor]:
        with self._lock:
            return dict(self._clones)

    def _clone(self, name: str) -> Tensor:
        clone = self._tensors[name].clone()
        self._check(name, clone)
        self._clones[name] = clone
        return clone


class Unwritten:
    """For who never writes the backbone: its live tensors are the base, each checked when it is first asked for."""

    def __init__(self, tensors: Mapping[str, Tensor], check: Callable[[str, Tensor], None]) -> None:
        self._tensors = tensors
        self._check = check
        self._checked: set[str] = set()
        self._lock = threading.Lock()

    def values(self, names: Iterable[str]) -> Mapping[str, Tensor]:
        found = {name: self._tensors[name] for name in names}
        with self._lock:
            unchecked = found.keys() - self._checked
        for name in unchecked:  # without the lock, for it hashes; two threads may check the same, to the same end
            self._check(name, found[name])
        with self._lock:
            self._checked |= unchecked
        return found

    def kept(self) -> Mapping[str, Tensor]:
        return {}


class Reread:
    """For devices where the clones do not fit: every question reads the weights anew and keeps nothing."""

    def __init__(self, read: Callable[[], Mapping[str, Tensor]]) -> None:
        self._read = read

    def values(self, names: Iterable[str]) -> Mapping[str, Tensor]:
        tensors = self._read()
        return {name: tensors[name] for name in names}

    def kept(self) -> Mapping[str, Tensor]:
        return {}
