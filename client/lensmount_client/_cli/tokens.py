"""`lensmount tokens ...`, `lensmount whoami`, `lensmount keys ...` and `lensmount adapters sign`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from lensmount_client._cli.lazy import LazySubgroup
from lensmount_client._cli.options import ServerOptions, with_options
from lensmount_client._cli.terminal import print_json, print_line, print_note, print_table
from lensmount_client._errors import CannotWrite, InvalidInput
from lensmount_client._files.paths import read_file
from lensmount_client._files.signing import HEADER, create_key, public_line_of, sign_file
from lensmount_client._http.call import Call
from lensmount_client._http.operation import SendCall
from lensmount_client._http.response import Response
from lensmount_client._resources.tokens import Tokens
from lensmount_client._show.table import Table
from lensmount_client._types.access import Token, TokenSecret

app = typer.Typer(name="tokens", no_args_is_help=True)
keys = typer.Typer(name="keys", cls=LazySubgroup, no_args_is_help=True)

T = TypeVar("T")

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Name = Annotated[str, typer.Argument(metavar="NAME", help="The token's name; the audit log shows it.")]


@dataclass(frozen=True)
class TokensOptions(ServerOptions):
    """Where the tokens are: at a server, or in the state folder of one that need not run."""

    tenant: Annotated[
        str | None, typer.Option(metavar="TENANT", help="Whose token it is; by default your own tenant's.")
    ] = None
    state: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Work in this state folder instead of asking a server: for the first token."),
    ] = None

    @contextmanager
    def tokens(self) -> Iterator[Tokens]:
        """The tokens of the server, or those of the folder, which gives the same answers."""
        if self.state is not None:
            yield Tokens(_sender(self.state))
            return
        with self.client() as client:
            yield client.tokens


@dataclass(frozen=True)
class QuotaOptions:
    """Limits of a new token."""

    requests_per_minute: Annotated[int | None, typer.Option(min=1, metavar="N", help="Requests.")] = None
    pixels_per_minute: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Pixels of images, times the adapters asked about each.")
    ] = None
    bytes_per_minute: Annotated[int | None, typer.Option(min=1, metavar="N", help="Bytes of request bodies.")] = None
    stored_bytes: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Bytes of adapters, datasets and images that wait for labels."),
    ] = None
    queued_jobs: Annotated[int | None, typer.Option(min=1, metavar="N", help="Jobs that wait for a worker.")] = None
    queue_share: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, metavar="PART", help="The part of the queue that it may fill.")
    ] = None


@app.command()
@with_options
def create(
    name: Name,
    scopes: Annotated[
        str, typer.Option(metavar="LIST", help="Some of predict,upload,train,admin; admin includes the others.")
    ] = "predict",
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="Such as 12h or 90d; without it the token lasts until revoked.")
    ] = None,
    *,
    quotas: QuotaOptions,
    server: TokensOptions,
) -> None:
    """Make a token. It is printed once; the server keeps only a hash of it."""
    wanted = [part.strip() for part in scopes.split(",") if part.strip()]
    lifetime_s = None if expires is None else seconds_of(expires)
    limits = {word: value for word, value in asdict(quotas).items() if value is not None}
    with server.tokens() as tokens:
        made = tokens.create(name, wanted, tenant=server.tenant, lifetime_s=lifetime_s, quotas=limits)
    _show_secret(made, as_json=server.json)


@app.command("list")
@with_options
def list_tokens(*, server: TokensOptions) -> None:
    """List the valid tokens, without their secrets."""
    with server.tokens() as tokens:
        found = tokens.list(server.tenant)
    if server.json:
        print_json({"tokens": [_document(token) for token in found]})
        return
    table = Table("tenant", "name", "scopes", "expires", "quotas")
    for token in found:
        row = (token.tenant, token.name, ",".join(token.scopes), _day(token.expires_at), _limits(token))
        table.add_row(*row)
    print_table(table)


@app.command()
@with_options
def revoke(name: Name, *, server: TokensOptions) -> None:
    """Revoke a token: it is refused from the next request on."""
    with server.tokens() as tokens:
        tokens.revoke(name, tenant=server.tenant)
    if server.json:
        print_json({"revoked": name})
    else:
        print_line(f"revoked {name}")


@app.command()
@with_options
def rotate(name: Name, *, server: TokensOptions) -> None:
    """Give a token a new secret. The old one is refused from now on."""
    with server.tokens() as tokens:
        made = tokens.rotate(name, tenant=server.tenant)
    _show_secret(made, as_json=server.json)


@with_options
def whoami(*, server: ServerOptions) -> None:
    """Show who the server takes you for. Also what you may do, until when, and how much of your quotas is used."""
    with server.client() as client:
        found = client.whoami()
    if server.json:
        print_json(_document(found))
        return
    print_line(f"{found.actor} of the tenant {found.tenant}, scopes {', '.join(found.scopes)}")
    if found.expires_at is not None:
        print_line(f"expires {_day(found.expires_at)}")
    for word, limit in asdict(found.quotas).items():
        if limit is not None:
            print_line(f"{word}: {_number(found.used.get(word, 0))} of {_number(limit)} used")


def seconds_of(text: str, flag: str = "--expires") -> float:
    """`seconds_of("90d")` is 7,776,000. Raises InvalidInput."""
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if match is None or int(match[1]) == 0:
        raise InvalidInput(f"{flag}: found {text!r}, expected a number and s, m, h or d. Fix: {flag} 90d")
    return float(int(match[1]) * UNITS_S[match[2]])


def _sender(state: Path) -> SendCall:
    """What answers each call from the state folder."""
    tokens = import_module("lensmount_service.local_tokens").LocalTokens(state)  # an extra, imported only when used

    def send(call: Call[T]) -> T:
        try:
            body = tokens.answer(call.method, call.path, call.params, call.content)
            return call.read(Response(200 if body else 204, {}, body))
        except ValueError as error:
            raise InvalidInput(str(error)) from error

    return send


def _show_secret(made: TokenSecret, *, as_json: bool) -> None:
    """The secret alone on stdout, so that a script can keep it: TOKEN=$(lensmount tokens create ...)."""
    if as_json:
        print_json({**_document(made.token), "secret": made.secret})
        return
    print_line(made.secret)
    until = "it is revoked" if made.token.expires_at is None else _day(made.token.expires_at)
    scopes = ",".join(made.token.scopes)
    print_note(f"{made.token.name} of the tenant {made.token.tenant}, scopes {scopes}, valid until {until}.")
    print_note("This token is not shown again. Give it to its owner, who sets LENSMOUNT_TOKEN to it.")


def _document(value: Any) -> dict[str, Any]:
    document = dataclasses.asdict(value)
    return {key: part.isoformat() if isinstance(part, datetime) else part for key, part in document.items()}


def _day(moment: datetime | None) -> str:
    return "never" if moment is None else moment.strftime("%Y-%m-%d %H:%M UTC")


def _limits(token: Token) -> str:
    """Each limit, and what is used of it where the server says so."""
    words = []
    for word, limit in asdict(token.quotas).items():
        if limit is not None:
            used = f"{_number(token.used[word])} of " if word in token.used else ""
            words.append(f"{word} {used}{_number(limit)}")
    return ", ".join(words)


def _number(value: float) -> str:
    """All digits of a count of bytes."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,g}"


Key = Annotated[Path, typer.Option("--key", metavar="KEY", help="The private key that lensmount keys create wrote.")]


def create_key_file(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; the server shows it as signed_by.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write the private key: NAME.key by default.")
    ] = None,
) -> None:
    """Make a key to sign adapters with. The private key is a file that only you may read; the public one is printed."""
    path = Path(f"{name}.key") if out is None else out
    print_line(create_key(path, name))
    print_note(f"{path} is the private key. The line above is the public one: the operator of a server adds it to the")
    print_note("file that LENSMOUNT_TRUSTED_KEYS names.")


def show_key(
    key: Annotated[Path, typer.Argument(metavar="KEY", help="A private key.")],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="By default that of the file.")] = None,
) -> None:
    """Print the public key of a private one."""
    print_line(public_line_of(key, key.stem if name is None else name))


def sign(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An adapter file, *.safetensors.")], key: Key
) -> None:
    """Sign an adapter file. The signature is printed and written next to it as FILE.sig, which push sends along."""
    signature = sign_file(read_file(file), key)
    target = file.with_name(f"{file.name}.sig")
    try:
        target.write_text(signature + "\n", encoding="ascii")
    except OSError as error:
        raise CannotWrite(f"{target}: {error.strerror}. Fix: copy the file to a folder where you may write") from error
    print_line(signature)
    print_note(f"wrote {target}; the header is {HEADER}")
