"""Bodies: those of requests, limited while they are read, and the open files that answers send."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import python_multipart  # noqa: F401  # otherwise Starlette imports it only during a request
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Receive, Scope, Send

from lensmount_service.errors import BodyTooLarge, MultipartMalformed, RequestInvalid
from lensmount_service.web.digests import BodyDigests
from lensmount_service.web.held_bytes import Holding

AT_ONCE_BYTES = 2**20  # of a body that are worked on in the event loop; what is larger goes to a thread
MAX_FIELDS = 8
SEND_LESS = "send less"
_BOUNDARY = re.compile(r""";\s*boundary\s*=\s*(?:"([^"]+)"|([^\s;"]+))""", re.IGNORECASE)
_ALLOWED = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, 5.1.1
_AS_FORM = "Fix: with curl, -F file=@FILE, which writes this header itself"
_PIECE_BYTES = 2**18  # of an open file, read at once
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a request. `name` is the client's own name for it and is only sent back to the client."""

    data: bytes
    name: str | None


async def read_raw(request: Request, max_bytes: int, fix: str = SEND_LESS) -> bytes:
    """The complete body. Raises BodyTooLarge with `fix` as soon as the limit is exceeded, before the rest is read."""
    chunks = [chunk async for chunk in _held(request, max_bytes, fix)]
    return b"".join(chunks)


def is_multipart(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"


async def read_multipart(
    request: Request, max_bytes: int, max_files: int, fix: str = SEND_LESS
) -> tuple[list[Part], dict[str, str]]:
    """The parts named `file`, in order, and the plain fields.

    Raises BodyTooLarge, MultipartMalformed, or RequestInvalid (`missing_part`, `duplicate_part`, `expected_file`).
    """
    # The parser sees only the boundary: of other parameters, a `charset` may name a codec that decodes no text.
    parser = _Parser(
        Headers({"content-type": f'multipart/form-data; boundary="{_boundary(request)}"'}),
        _held(request, max_bytes, fix),
        max_files=max_files + 1,
        max_fields=MAX_FIELDS,
        max_part_size=4096,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many" in error.message:
            raise BodyTooLarge(
                f"found more than {max_files} files or {MAX_FIELDS} fields in one request", code="batch_too_large"
            ) from error
        raise MultipartMalformed(f"the multipart body cannot be read: {error.message[:120]}. {_AS_FORM}") from error
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:  # on hostile part headers
        raise MultipartMalformed(f"the headers of a part of the multipart body cannot be read. {_AS_FORM}") from error
    try:
        if not parser.complete:
            raise MultipartMalformed("the multipart body ends before its last part", code="multipart_truncated")
        parts: list[Part] = []
        fields: dict[str, str] = {}
        for key, value in form.multi_items():
            if isinstance(value, UploadFile):
                if key != "file":
                    raise RequestInvalid(f"found a file part named {key[:40]!r}, expected `file`", code="missing_part")
                parts.append(Part(await value.read(), value.filename))
            elif key == "file":
                raise RequestInvalid(
                    "found `file` as a plain field, expected a file part. Fix: with curl, -F file=@image.png",
                    code="expected_file",
                )
            elif key in fields:
                raise RequestInvalid(f"found the field {key[:40]!r} twice, expected it once", code="duplicate_part")
            else:
                fields[key] = value
    finally:
        parser.close()
    if len(parts) > max_files:
        raise BodyTooLarge(
            f"found {len(parts)} files in one request, expected at most {max_files}", code="batch_too_large"
        )
    if not parts:
        raise RequestInvalid("found no part named `file`. Fix: with curl, -F file=@image.png", code="missing_part")
    return parts, fields


def _boundary(request: Request) -> str:
    """The boundary between the parts, from the header Content-Type. Raises MultipartMalformed."""
    stated = list(dict.fromkeys(request.headers.getlist("content-type")))
    if len(stated) > 1:
        raise MultipartMalformed(f"found {len(stated)} headers Content-Type, expected one. {_AS_FORM}")
    if not stated or not is_multipart(request):
        found = "another Content-Type" if stated else "no Content-Type"
        raise MultipartMalformed(f"found {found}, expected multipart/form-data with a part `file`. {_AS_FORM}")
    match = _BOUNDARY.search(stated[0])
    boundary = (match[1] or match[2]) if match else ""
    if not _ALLOWED.fullmatch(boundary):
        raise MultipartMalformed(
            f"found no boundary, or one that RFC 2046 does not allow, in the header Content-Type. {_AS_FORM}"
        )
    return boundary


class _Parser(MultiPartParser):
    """Starlette's parser, which by itself does not notice a body that was cut short."""

    spool_max_size = 0  # never spool to disk: the body is bounded and needed in memory
    complete = False

    def on_end(self) -> None:
        self.complete = True

    def close(self) -> None:
        """Close the file of every part, including an unfinished part."""
        for file in self._files_to_close_on_error:
            file.close()


async def _held(request: Request, max_bytes: int, fix: str) -> AsyncGenerator[bytes, None]:
    """Like `limited`, for a body that is kept in memory. Raises Unavailable (`overloaded`) if there is no room."""
    holding: Holding | None = request.scope.get("state", {}).get("holding")
    async for chunk in limited(request, max_bytes, fix):
        if holding is not None:
            holding.add(len(chunk))
        yield chunk


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """The result of work on `size` bytes: in a thread, unless it takes about as long as going there."""
    return work() if size < AT_ONCE_BYTES else await asyncio.to_thread(work)


async def limited(request: Request, max_bytes: int, fix: str = SEND_LESS) -> AsyncGenerator[bytes, None]:
    """The body as it arrives. Raises BodyTooLarge as soon as the limit is exceeded; `fix` is what helps.

    At its end raises RequestInvalid (`digest_mismatch`) if it is not what Content-Digest or Repr-Digest say.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > max_bytes):
        raise _too_large(max_bytes, fix)
    digests = BodyDigests(request)
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > max_bytes:
            raise _too_large(max_bytes, fix)
        digests.update(chunk)
        yield chunk
    digests.check()


def _too_large(max_bytes: int, fix: str) -> BodyTooLarge:
    return BodyTooLarge(f"found a body of more than {max_bytes} bytes. Fix: {fix}; GET /limits shows every limit")


class OpenFile(StreamingResponse):
    """An open file as the body of an answer, always whole. It is read piece by piece, and closed at the end.

    A route opens the file itself: then a file that is removed meanwhile is sent all the same, and one that is gone
    already is an error of the store, with its own code.
    """

    def __init__(self, file: BinaryIO, media_type: str, headers: Mapping[str, str]) -> None:
        size = os.fstat(file.fileno()).st_size
        file.seek(0)
        super().__init__(_pieces(file), media_type=media_type, headers={**headers, "Content-Length": str(size)})
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


async def _pieces(file: BinaryIO) -> AsyncGenerator[bytes, None]:
    """The rest of an open file. A slow client takes no more than one piece of memory."""
    while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
        yield piece
