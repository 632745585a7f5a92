"""The one door for JSON: every JSON body is limited while it is read, and checked before anything is made of it.

RFC 8259 leaves open what a name that occurs twice means, and Python's parser takes more than JSON has: NaN, and halves
of surrogate pairs. A proxy might understand such a body in another way than this server, so it is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from lensmount_adapters.strict import first_fault
from lensmount_service.errors import BodyTooLarge, RequestError, RequestInvalid
from lensmount_service.web.bodies import read_raw

MAX_DEPTH = 64
MAX_MARKS = 500_000  # commas and opening brackets: objects made of them take up to 130 MB of memory
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # perhaps half of a surrogate pair
_AS_UTF_8 = "Fix: send UTF-8 without a byte order mark"

Form = TypeVar("Form", bound=BaseModel)


class JsonRoute(APIRoute):
    """A route whose JSON body, if it has one, comes through this door: `APIRouter(route_class=JsonRoute)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def checked(request: Request) -> Response:
            body = await read_raw(request, request.app.state.context.settings.max_json_bytes)
            if body:
                _require_json(request)
            return await handle(_Checked(request, body, parse_json(body) if body else None))

        return checked


async def read_json(request: Request, form: type[Form], max_bytes: int, fix: str) -> Form:
    """The body as a `form`, for routes with limits of their own.

    Raises what `parse_json` raises, or RequestInvalid that names the first fault and says `fix`.
    """
    body = await read_raw(request, max_bytes)
    try:
        parse_json(body)
    except RequestError as error:
        if error.code not in (RequestError.default_code, RequestInvalid.default_code):
            raise
        found = str(error).partition(" Fix: ")[0]
        raise RequestInvalid(f"the body: {found} Fix: {fix}") from error  # 422 on these routes, as for another form
    try:
        return form.model_validate_json(body)
    except ValidationError as error:
        where, fault = first_fault(error)
        raise RequestInvalid(f"{where or 'the body'}: {fault}. Fix: {fix}") from error


class _Checked(Request):
    """A request whose body was read. FastAPI asks it for both."""

    def __init__(self, request: Request, body: bytes, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._read_body = body
        self._value = value

    async def body(self) -> bytes:
        return self._read_body

    async def json(self) -> Any:
        return self._value


def parse_form(body: bytes, form: type[Form], fix: str) -> Form:
    """A JSON text as a `form`. Raises what `parse_json` raises, or RequestInvalid with the first fault and `fix`."""
    try:
        return form.model_validate(parse_json(body))
    except ValidationError as error:
        where, fault = first_fault(error)
        raise RequestInvalid(f"{where or 'the body'}: {fault}. Fix: {fix}") from error


def parse_json(body: bytes) -> Any:
    """The value of a JSON text.

    Raises BodyTooLarge for very many small values, RequestError for what is not JSON in UTF-8, for a name that occurs
    twice (`duplicate_key`) and for more than `MAX_DEPTH` levels, RequestInvalid for numbers and texts without a value.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_MARKS:  # small objects take far more memory than their text
        raise BodyTooLarge(
            f"found JSON with more than {MAX_MARKS} commas and brackets, expected fewer values. "
            "Fix: send less in one request"
        )
    if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) or b"\0" in body[:4]:
        raise RequestError(f"found a byte order mark or UTF-16, expected JSON in UTF-8. {_AS_UTF_8}")
    try:
        value = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_not_a_number, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise RequestError(f"found bytes that are not UTF-8, expected JSON in UTF-8. {_AS_UTF_8}") from error
    except RecursionError as error:
        raise _too_deep() from error
    except json.JSONDecodeError as error:
        raise RequestError(
            f"found text that is not JSON at character {error.pos}: {error.msg}. Fix: send one JSON value"
        ) from error
    except ValueError as error:  # of int(), for thousands of digits
        raise RequestError("found a number of thousands of digits, expected fewer. Fix: send a smaller one") from error
    _check(value, texts=_HALF.search(body) is not None)
    return value


def is_json(request: Request) -> bool:
    """Whether the header Content-Type says so."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or bool(re.fullmatch(r"application/[\w.-]+\+json", media_type))


def _require_json(request: Request) -> None:
    if not is_json(request):
        found = "another Content-Type" if request.headers.get("content-type") else "no Content-Type"
        raise RequestInvalid(
            f"found {found}, expected application/json. Fix: send the header Content-Type: application/json "
            "(with curl, --json FILE)"
        )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise RequestError(
            "found an object in which a name occurs twice, expected each name once. Fix: leave one of them out",
            code="duplicate_key",
        )
    return made


def _not_a_number(_: str) -> NoReturn:
    raise RequestInvalid("found NaN or Infinity, which JSON does not have, expected a number. Fix: send a number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise RequestInvalid("found a number beyond 1.8e308, expected a smaller one. Fix: send a smaller number")
    return value


def _check(value: Any, *, texts: bool) -> None:
    """Raises RequestError for too many levels and, if `texts`, RequestInvalid for half of a surrogate pair."""
    level: list[Any] = [value]
    depth = 0
    while level:
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += [*item.values(), *item] if texts else item.values()
            elif isinstance(item, list):
                inner += item
            elif texts and isinstance(item, str) and not _has_a_value(item):
                raise RequestInvalid(
                    "found half of a surrogate pair (\\ud800 to \\udfff alone), expected characters of Unicode. "
                    "Fix: send the character itself"
                )
        depth += any(isinstance(item, dict | list) for item in level)
        if depth > MAX_DEPTH:
            raise _too_deep()
        level = inner


def _has_a_value(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_deep() -> RequestError:
    return RequestError(f"found JSON of more than {MAX_DEPTH} levels, expected fewer. Fix: send a flatter value")
