"""The tree of errors: as it is drawn, with a code for each class."""

from __future__ import annotations

import pickle
import re

import pytest
from tests.client.answers import refused

import lensmount_client
from lensmount_client import LensmountError, UnexpectedResponse
from lensmount_client._errors import CLASS_OF_CODE
from lensmount_client._http.problem import error_of


def test_the_drawn_error_tree_is_the_real_one() -> None:
    from lensmount_client import _errors

    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (_errors.__doc__ or "").splitlines():
        words = re.findall(r"\w+", line)
        if line[:4].strip() or not words or not isinstance(getattr(_errors, words[0], None), type):
            continue
        branch = line.find("── ")  # a class with others below it, or else a row of classes without any
        depth = (branch - 5) // 4 + 1 if branch > 0 else 0
        if branch > 0 or not drawn:
            above[depth:] = [words[0]]
            drawn[words[0]] = above[depth - 1] if depth else "Exception"
        else:
            drawn |= dict.fromkeys(words, above[-1])
    real = {
        name: error.__bases__[0].__name__
        for name, error in vars(_errors).items()
        if isinstance(error, type) and issubclass(error, Exception)
    }
    assert drawn == real


def test_every_class_of_the_table_states_its_code() -> None:
    assert {code: error.code for code, error in CLASS_OF_CODE.items()} == {code: code for code in CLASS_OF_CODE}


@pytest.mark.parametrize("code", CLASS_OF_CODE)
def test_every_error_that_a_server_names_survives_pickling(code: str) -> None:
    error = error_of(refused(422, {"code": code, "detail": "found x"}), 0.0)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.code) == (CLASS_OF_CODE[code], "found x", code)


def test_errors_survive_pickling() -> None:
    said_no = error_of(refused(404, {"code": "adapter_not_found", "detail": "none", "request_id": "r"}), 0.0)
    for error in (said_no, UnexpectedResponse("odd", "r"), lensmount_client.InvalidInput("gone")):
        again: LensmountError = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.request_id) == (type(error), str(error), error.request_id)
