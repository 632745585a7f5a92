"""The tree of errors: as it is drawn, with a code for each class."""

from __future__ import annotations

import pickle
import re

import httpx
import pytest
from tests.client.answers import answering, mocked, refused
from tests.client.job_answers import DOCUMENT

import lensmount_client
from lensmount_client import LensmountError, UnexpectedResponse
from lensmount_client._api import read_jobs
from lensmount_client._errors import CLASS_OF_CODE
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.problem import error_of


def test_the_drawn_error_tree_is_the_real_one() -> None:
    from lensmount_client import _errors
    from lensmount_client._types import ended

    known = vars(_errors) | vars(ended)
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (_errors.__doc__ or "").splitlines():
        words = re.findall(r"\w+", line)
        if line[:4].strip() or not words or not isinstance(known.get(words[0]), type):
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
        for name, error in known.items()
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


def all_errors() -> list[type[LensmountError]]:
    def below(error: type[LensmountError]) -> list[type[LensmountError]]:
        return [error, *(other for each in error.__subclasses__() for other in below(each))]

    return below(LensmountError)


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__name__)
def test_every_error_has_a_code_a_detail_and_a_request_id(error: type[LensmountError]) -> None:
    if issubclass(error, lensmount_client.ProblemError):
        found: LensmountError = error(lensmount_client.Problem(503, "odd", "Odd", "found x", "r-1"))
        assert (found.code, found.detail, found.request_id) == ("odd", "found x", "r-1")
        return
    given: tuple[object, ...] = (job_info(),) if issubclass(error, lensmount_client.JobEnded) else ()
    found = error("found x", *given)
    assert isinstance(found.code, str)
    assert (found.detail, found.request_id) == ("found x", None)


def test_the_detail_of_a_refusal_is_the_servers_and_its_title_if_there_is_none() -> None:
    for document, detail in (({"detail": "see GET /adapters"}, "see GET /adapters"), ({"title": "Gone"}, "Gone")):
        error = error_of(refused(410, {"code": "gone", **document}), 0.0)
        assert error.detail == detail


def test_errors_of_the_transport_have_the_same_three_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for failure in (httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.ReadError("cut")):
        handle, _ = answering(failure)
        with mocked(handle, retries=0) as client, pytest.raises(lensmount_client.TransportError) as caught:
            client.limits()
        error = caught.value
        assert error.code in ("server_unreachable", "timed_out")
        assert (error.detail, error.request_id) == (str(error), None)


def job_info() -> lensmount_client.JobInfo:
    return read_jobs.job_of(JsonFields(DOCUMENT, "job", None))
