"""Bodies that clients send packed with gzip or deflate, and answers that are packed for them (RFC 9110, 8.4.1)."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator

from fastapi import Request

from lensmount_service.errors import BodyTooLarge, RequestError
from lensmount_service.web.bodies import AT_ONCE_BYTES, SEND_LESS, read_raw
from lensmount_service.web.held_bytes import Holding

ENCODINGS = {"gzip": 31, "deflate": 15}  # zlib's window bits, which also choose the format
PIECE_BYTES = 2**18  # that are unpacked at a time
LEVEL = 1


async def read_unpacked(request: Request, max_bytes: int, fix: str = SEND_LESS) -> bytes:
    """The complete body without its Content-Encoding, at most `max_bytes` both as sent and unpacked.

    Raises BodyTooLarge as soon as the limit is exceeded, before the rest is unpacked, and RequestError for a body that
    is not in the format of the header.
    """
    packed = await read_raw(request, max_bytes, fix)
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        return packed
    holding: Holding | None = request.scope.get("state", {}).get("holding")
    pieces = unpack(packed, encoding)
    unpacked: list[bytes] = []
    total = 0
    while piece := next(pieces, b"") if total < AT_ONCE_BYTES else await asyncio.to_thread(next, pieces, b""):
        total += len(piece)
        if total > max_bytes:
            raise BodyTooLarge(
                f"found a body of more than {max_bytes} bytes after unpacking. Fix: {fix}; "
                "GET /limits shows every limit"
            )
        if holding is not None:
            holding.add(len(piece))
        unpacked.append(piece)
    return b"".join(unpacked)


def unpack(packed: bytes, encoding: str) -> Iterator[bytes]:
    """The content in pieces of at most `PIECE_BYTES`. Raises RequestError if it is not one complete stream."""
    unpacker = zlib.decompressobj(ENCODINGS[encoding])
    taken = 0
    while taken < len(packed) and not unpacker.eof:
        data = packed[taken : taken + AT_ONCE_BYTES]
        taken += len(data)
        piece = bytes(PIECE_BYTES)
        while len(piece) == PIECE_BYTES:
            try:
                piece = unpacker.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise _not_in_format(encoding) from error
            data = unpacker.unconsumed_tail
            if piece:
                yield piece
    if not unpacker.eof or unpacker.unused_data or taken < len(packed):
        raise _not_in_format(encoding)


def pack(body: bytes, encoding: str) -> bytes:
    """The body in one of `ENCODINGS`."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, ENCODINGS[encoding])
    return packer.compress(body) + packer.flush()


def _not_in_format(encoding: str) -> RequestError:
    name = {"gzip": "gzip (RFC 1952)", "deflate": "zlib (RFC 1950)"}[encoding]
    return RequestError(
        f"found a body that is not one complete {name} stream, as Content-Encoding: {encoding} says. "
        "Fix: pack the whole body once, or leave out the header Content-Encoding"
    )
