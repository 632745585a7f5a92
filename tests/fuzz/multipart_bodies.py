"""Multipart bodies as hostile clients write them: changed in their heads, their data, their ends and their bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz.mutate import mutated


@dataclass
class DrawnPart:
    """Lines of a part's head, and what follows it."""

    head: list[bytes]
    data: bytes


@dataclass
class DrawnForm:
    """A multipart body before it is written. Each change makes one thing of it unusual."""

    parts: list[DrawnPart]
    boundary: bytes = b"B"
    content_type: bytes = b"multipart/form-data; boundary=B"
    preamble: bytes = b""
    end: bytes = b"--\r\n"
    epilogue: bytes = b""
    padding: bytes = b""
    ending: bytes = b"\r\n"
    plain: bool = True

    def dump(self) -> bytes:
        out = [self.preamble]
        for part in self.parts:
            out += [b"--", self.boundary, self.padding, b"\r\n", *(line + b"\r\n" for line in part.head), b"\r\n"]
            out += [part.data, b"\r\n"]
        body = b"".join([*out, b"--", self.boundary, self.end, self.epilogue])
        return body if self.ending == b"\r\n" else body.replace(b"\r\n", self.ending)


_ODD_TEXTS = (
    *(
        b"",
        b"file",
        b"name",
        b"_charset_",
        b"a.png",
        b"../../etc/passwd",
        b"C:\\a.png",
        b"a\0b",
        b"\xff\xfe",
        b"a" * 300,
    ),
    *(
        b"a" * 5000,
        b"a" * 70_000,
        b'a"b',
        b'a\\"b',
        b"a;b",
        b"a\tb",
        b"=?utf-8?B?YQ==?=",
        "ä".encode(),
        "ä".encode("latin-1"),
    ),
)
_DISPOSITIONS: tuple[Callable[[bytes], bytes], ...] = (
    lambda text: b'form-data; name="%b"' % text,
    lambda text: b'form-data; name="file"; filename="%b"' % text,
    lambda text: b"form-data; name=file; filename=%b" % text,
    lambda text: b"form-data; name=file; filename*=utf-8''%b" % text,
    lambda text: b"form-data; name=file; filename*=nothing'en'%%ff%b" % text,
    lambda text: b"form-data; name=file; filename*0*=utf-8''%b; filename*1=b" % text,
    lambda text: b'form-data; name="file"; name="%b"; filename=a' % text,
    lambda text: b'form-data; filename="a"; %b' % text,
    lambda text: b'attachment; name="file"; filename="%b"' % text,
    lambda text: b'form-data; name="file; filename="%b' % text,
    lambda text: b"form-data;;; name = file ;filename = %b" % text,
)
_TYPES = (
    *(
        b"image/png",
        b"text/plain; charset=utf-7",
        b"text/plain; charset=idna",
        b"text/plain; charset=hex",
        b"",
        b"\xff",
    ),
    *(
        b"text/plain; charset=undefined",
        b"multipart/mixed; boundary=C",
        b"multipart/form-data; boundary=B",
        b"a" * 9000,
    ),
)
_ENCODINGS = (b"base64", b"quoted-printable", b"8bit", b"7bit", b"binary", b"x-uuencode", b"nothing", b"", b"a" * 9000)
_OUTER_TYPES = (
    *(b'multipart/form-data; boundary="B"', b"multipart/form-data; boundary=b", b"multipart/form-data; boundary=BB"),
    *(b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/form-data; boundary=B; boundary=C"),
    *(
        b"multipart/form-data; charset=idna; boundary=B",
        b"multipart/mixed; boundary=B",
        b"MULTIPART/Form-Data;Boundary=B",
    ),
    *(
        b"multipart/form-data; boundary*=utf-8''B",
        b"multipart/form-data; boundary=\xff",
        b"multipart/form-data; boundary=" + b"B" * 5000,
    ),
)


def _any(form: DrawnForm, draw: random.Random) -> DrawnPart:
    return draw.choice(form.parts) if form.parts else DrawnPart([], b"")


def _another_disposition(form: DrawnForm, draw: random.Random) -> None:
    part = _any(form, draw)
    line = draw.choice((b"Content-Disposition: ", b"content-disposition:", b"Content-Disposition : "))
    line += draw.choice(_DISPOSITIONS)(draw.choice(_ODD_TEXTS))
    part.head = [line] if draw.random() < 0.6 else [*part.head, line]


def _another_header(form: DrawnForm, draw: random.Random) -> None:
    name, values = draw.choice(
        ((b"Content-Type", _TYPES), (b"Content-Transfer-Encoding", _ENCODINGS), (b"X", _ODD_TEXTS))
    )
    _any(form, draw).head.insert(0, name + b": " + draw.choice(values))


def _a_broken_head(form: DrawnForm, draw: random.Random) -> None:
    part = _any(form, draw)
    match draw.randrange(6):
        case 0:
            part.head = [
                line.replace(b"; ", draw.choice((b";\r\n ", b";\r\n\t", b";\n ", b";\r "))) for line in part.head
            ]
        case 1:
            part.head.append(
                draw.choice((b"no colon", b": no name", b"\0: x", b"a b: x", b"\xff: x", b" folded", b"X:"))
            )
        case 2:
            part.head += [b"X-%d: y" % number for number in range(draw.choice((5, 50, 2000)))]
        case 3:
            part.head = []
        case 4:
            part.head = [line.swapcase() for line in part.head]
        case _:
            part.head = [mutated(line, draw) for line in part.head]


def _other_data(form: DrawnForm, draw: random.Random) -> None:
    part, boundary = _any(form, draw), form.boundary
    inner = DrawnForm([DrawnPart([b"Content-Disposition: form-data; name=inner"], b"y")], draw.choice((b"C", boundary)))
    part.data = draw.choice(
        (
            *(b"", b"\r\n", b"\r", b"-", b"--", b"\r\n-", b"\r\n--", b"\r\n--" + boundary[:-1], b"--" + boundary),
            *(b"\r\n--" + boundary + b"x", b"\n--" + boundary + b"\n", b"\r\n--" + boundary + b"-", b"\r\n" * 2000),
            *(inner.dump(), part.data + b"\r", (part.data * 50)[:20_000], draw.randbytes(2000)),
        )
    )


def _other_parts(form: DrawnForm, draw: random.Random) -> None:
    match draw.randrange(4):
        case 0:
            form.parts = (form.parts * draw.choice((0, 2, 3, 10)))[:30]
        case 1:
            form.parts.reverse()
        case 2:
            form.parts += [
                DrawnPart([b"Content-Disposition: form-data; name=x%d" % number], b"") for number in range(300)
            ]
        case _:
            form.parts.append(DrawnPart([b'Content-Disposition: form-data; name="%b"' % draw.choice(_ODD_TEXTS)], b"z"))


def _other_ends(form: DrawnForm, draw: random.Random) -> None:
    match draw.randrange(6):
        case 0:
            form.end = draw.choice(
                (b"", b"\r\n", b"-", b"--", b"-- \r\n", b"x", b"--\n", b"--\r\n--" + form.boundary + b"--\r\n")
            )
        case 1:
            form.epilogue = draw.choice((b"x", b"\r\n" * 3000, b"--B\r\n\r\n", draw.randbytes(50), b"-" * 5000))
        case 2:
            form.preamble = draw.choice((b"x\r\n", b"\r\n", b"\r\n" * 3000, b"--", b"--C\r\n", draw.randbytes(50)))
        case 3:
            form.ending = draw.choice((b"\n", b"\r", b"\n\r", b"\r\r\n"))
        case 4:
            form.padding = draw.choice((b" ", b"\t \t", b" " * 5000, b"x", b"-", b"--"))
        case _:
            form.boundary = draw.choice((b"C", b"BB", b"b", b"", b"B B", b"B" * 70))
            if draw.random() < 0.7:
                form.content_type = b'multipart/form-data; boundary="%b"' % form.boundary


def _another_outer_type(form: DrawnForm, draw: random.Random) -> None:
    form.content_type = draw.choice(_OUTER_TYPES)


CHANGES: tuple[Callable[[DrawnForm, random.Random], None], ...] = (
    *(_another_disposition, _another_disposition, _another_header, _a_broken_head, _other_data, _other_parts),
    *(_other_ends, _another_outer_type),
)


def drawn_form(draw: random.Random) -> tuple[DrawnForm, bytes]:
    """A form with 0 to 4 changes, and its bytes, which may be changed too; `plain` if nothing was."""
    files = [
        DrawnPart([b'Content-Disposition: form-data; name="file"; filename="%d.png"' % number], draw.randbytes(20))
        for number in range(draw.randint(1, 3))
    ]
    for part in files[1:]:
        part.head.append(b"Content-Type: image/png")
    fields = [DrawnPart([b'Content-Disposition: form-data; name="name"'], b"cells")] * draw.randint(0, 1)
    form = DrawnForm([*files, *fields])
    count = draw.choice((0, 1, 1, 2, 2, 3, 4))
    for _ in range(count):
        draw.choice(CHANGES)(form, draw)
    body = form.dump()
    if draw.random() < 0.2:
        body, count = mutated(body, draw), count + 1
    form.plain = count == 0
    return form, body
