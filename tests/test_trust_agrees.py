"""What the client, the server and the web page say about trust is compared here, so that none changes alone."""

from __future__ import annotations

import inspect
import re
import typing
from pathlib import Path
from typing import Any

import pytest
from tests.test_client_and_server_agree import fields

import lensmount_service
from lensmount_adapters.trust import judge
from lensmount_client import _reference as _calls
from lensmount_client._show import promises
from lensmount_client._types import results
from lensmount_client._types import trust as _words
from lensmount_service.routes import predict as predict_routes
from lensmount_service.web import trust_schemas


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (results.AliasTrust, trust_schemas.AliasTrust),
        (results.AliasTrust, judge.Overrides),
        (_words.Trust, trust_schemas.TrustInfo),
        (_words.Unfamiliarity, trust_schemas.Unfamiliarity),
        (_words.TrustBasis, trust_schemas.TrustBasis),
    ],
    ids=lambda value: value.__name__,
)
def test_a_document_has_the_same_fields_on_both_sides(client: Any, server: Any) -> None:
    assert fields(client) == fields(server)


def test_every_promise_that_the_server_shows_has_a_word_on_the_command_line() -> None:
    assert promises.PARTS.keys() == fields(trust_schemas.Promises)


def test_the_decisions_that_a_request_may_ask_for() -> None:
    allowed = re.search(r"decision: Annotated\[\s*Literal\[(.*?)\]", inspect.getsource(predict_routes))
    assert allowed is not None
    assert allowed[1] == f'"{_calls.ALWAYS}", "{_calls.STRICT}"'


def test_the_page_says_what_an_answer_is_worth_in_the_words_of_the_command_line() -> None:
    page = (Path(lensmount_service.__file__).parent / "page" / "lib" / "trust.js").read_text(encoding="utf-8")
    assert all(f'"{words}"' in page for words in (_words.SURE, _words.NOT_SURE, _words.UNLIKE))
    assert f"NAMED = {_words.NAMED};" in page
    for decision in typing.get_args(judge.Decision):
        assert f"{decision}: " in page
