"""A client is used where its connections are: in one process, in one event loop, before it is closed."""

from __future__ import annotations

import os

import pytest

from lensmount_client import InvalidInput
from lensmount_client._http.owner import Owner


def test_the_first_request_says_whose_the_connections_are() -> None:
    owner, loop = Owner(), object()
    owner.require(closed=False, loop=loop)

    owner.require(closed=False, loop=loop)
    with pytest.raises(InvalidInput, match=r"another event loop.*Fix: build a client in each asyncio\.run"):
        owner.require(closed=False, loop=object())


def test_another_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner()
    owner.require(closed=False)

    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(InvalidInput, match=r"before a fork.*Fix: build a client in each process"):
        owner.require(closed=False)
    Owner().require(closed=False)


def test_a_closed_client_is_refused_wherever_it_is() -> None:
    with pytest.raises(InvalidInput, match="Fix: build a new client"):
        Owner().require(closed=True)
