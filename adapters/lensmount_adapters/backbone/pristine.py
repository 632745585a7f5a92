"""Sources of the original values of the backbone's tensors: clones, the live tensors, or the weights read again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from torch import Tensor


class Pristine(Protocol):
    """A source of base values. A tensor is requested before it is first written, and any time after."""

    def values(self, names: Iterable[str]) -> Mapping[str, Tensor]:
        """Return the base values of the named tensors, whatever is mounted. Safe from any thread."""
        ...

    def kept(self) -> Mapping[str, Tensor]:
        """Return the tensors it keeps in memory. Safe from any thread, and to iterate over while other threads ask."""
        ...


class Clones:
    """The default source: a tensor is cloned when it is first requested, and the clone is kept.

    A tensor is requested before it is written, so a tensor without a clone was never written. `check(name, clone)`
    raises if a clone differs from the tensor's value at start.
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
    """For callers that never modify the backbone: live tensors are the base values, verified on first access."""

    def __init__(self, tensors: Mapping[str, Tensor], check: Callable[[str, Tensor], None]) -> None:
        self._tensors = tensors
        self._check = check
        self._checked: set[str] = set()
        self._lock = threading.Lock()

    def values(self, names: Iterable[str]) -> Mapping[str, Tensor]:
        tensors = {name: self._tensors[name] for name in names}
        with self._lock:
            unchecked = tensors.keys() - self._checked
        for name in unchecked:  # without the lock, because hashing is slow; two threads may check the same tensor
            self._check(name, tensors[name])
        with self._lock:
            self._checked |= unchecked
        return tensors

    def kept(self) -> Mapping[str, Tensor]:
        return {}


class Reread:
    """For devices without memory for clones: every request reads the weights again and keeps nothing."""

    def __init__(self, read: Callable[[], Mapping[str, Tensor]]) -> None:
        self._read = read

    def values(self, names: Iterable[str]) -> Mapping[str, Tensor]:
        tensors = self._read()
        return {name: tensors[name] for name in names}

    def kept(self) -> Mapping[str, Tensor]:
        return {}
