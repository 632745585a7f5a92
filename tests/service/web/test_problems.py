"""Every error becomes one problem document, whose code and status are those of the table."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException

from lensmount_adapters import errors as adapters
from lensmount_service import errors as service
from lensmount_service import middleware
from lensmount_service.web import problems
from lensmount_service.web.problems import CODES, NEVER_SENT


def classes(base: type[Any]) -> list[type[Any]]:
    return [base, *(finer for kind in base.__subclasses__() for finer in classes(kind))]


ERRORS = [*classes(service.ServiceError), *classes(adapters.LensmountError)]


def declared(kind: type[Any]) -> set[str]:
    return {kind.default_code, *vars(kind).get("finer_codes", ())}


@pytest.fixture
def answer_to() -> Any:
    """`answer_to(error)`: the response of a route that raises it. `refused(code, status)` is told of it."""

    def ask(error: Exception, refused: Callable[[str, int], object] | None = None) -> Any:
        app = FastAPI()
        app.state.refused = refused
        problems.install(app)

        @app.get("/")
        async def fail(request: Request) -> None:
            request.state.request_id = "r-1"
            raise error

        return TestClient(app, raise_server_exceptions=False).get("/")

    return ask


def test_an_error_is_answered_with_the_status_and_the_code_of_its_class(answer_to: Any) -> None:
    answer = answer_to(service.NotFound("found no adapter named 'cells'", code="adapter_not_found"))

    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json() == {
        "type": "urn:lensmount:problem:adapter_not_found",
        "title": "Not Found",
        "status": 404,
        "detail": "found no adapter named 'cells'",
        "code": "adapter_not_found",
        "request_id": "r-1",
    }


@pytest.mark.parametrize(("retry_after_s", "sent"), [(7, "7"), (None, "1")])
def test_a_client_is_told_when_to_try_again(answer_to: Any, retry_after_s: int | None, sent: str) -> None:
    answer = answer_to(service.QueueFull("the queue is full", retry_after_s=retry_after_s))

    assert (answer.status_code, answer.headers.get("Retry-After")) == (429, sent)


def test_an_error_of_ours_says_nothing_of_what_it_was(answer_to: Any) -> None:
    answer = answer_to(ZeroDivisionError("the patient's name"))

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "patient" not in answer.text


def test_every_problem_is_counted_once_in_the_application_that_answers_it(answer_to: Any) -> None:
    counted: list[tuple[str, int]] = []
    for error in (service.QueueFull("the queue is full"), HTTPException(404), ZeroDivisionError(), MemoryError()):
        answer_to(error, lambda code, status: counted.append((code, status)))
    assert counted == [("queue_full", 429), ("not_found", 404), ("internal_error", 500), ("out_of_memory", 503)]


@pytest.mark.parametrize("status", [400, 401, 404, 405])
def test_the_errors_of_the_framework_have_codes_of_the_table(answer_to: Any, status: int) -> None:
    answer = answer_to(HTTPException(status))

    assert (answer.status_code, CODES[answer.json()["code"]]) == (status, status)


def test_no_code_has_two_statuses() -> None:
    for kind in ERRORS:
        status = next((problems.STATUS[base] for base in kind.__mro__ if base in problems.STATUS), None)
        for code in declared(kind) if status is not None else ():
            assert CODES[code] == status, f"{kind.__name__}: {code}"


def test_every_code_either_reaches_the_wire_or_is_marked_as_never_sent() -> None:
    everything = {code for kind in ERRORS for code in declared(kind)}
    assert everything <= set(CODES) | NEVER_SENT
    assert not set(CODES) & NEVER_SENT


def test_the_codes_that_guard_and_handlers_write_themselves_are_in_the_table() -> None:
    """Every text that looks like a code in the two files that answer without an error class."""
    for module in (middleware, problems):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):  # (code, why)
                assert all(code in CODES for code in texts(node.value.elts[0]))
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "problem":
                assert all(code in CODES or code in NEVER_SENT for code in texts(node.args[1]))


def texts(node: ast.AST) -> list[str]:
    """The texts that an expression may have as its value: one, or both of `a if test else b`."""
    if isinstance(node, ast.IfExp):
        return [*texts(node.body), *texts(node.orelse)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []
