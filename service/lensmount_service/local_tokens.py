"""The tokens of a state folder, without a server: the first one has to exist before the server starts.

`lensmount tokens --state DIR` uses this. Requests and answers are those of the routes /tokens, without HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from pydantic import BaseModel, ValidationError

from lensmount_service.access.identity import DEFAULT_TENANT, Quotas, require_tenant
from lensmount_service.access.tokens import Token, TokenStore
from lensmount_service.errors import RequestInvalid, ServiceError
from lensmount_service.repair.start import require_usable
from lensmount_service.settings import Settings
from lensmount_service.state_folder import in_use
from lensmount_service.store.database import Database
from lensmount_service.store.references import require_name
from lensmount_service.store.uploads import Uploads
from lensmount_service.tenants.holdings import Holdings
from lensmount_service.web.token_schemas import NewToken, TokenInfo, TokenMade, listed


class LocalTokens:
    """`LocalTokens(Path("/var/lib/lensmount")).answer("GET", "/tokens", {}, None)` gives the route's JSON."""

    def __init__(self, state: Path) -> None:
        self._settings = Settings(state=state)

    def answer(self, method: str, path: str, params: Mapping[str, str | int], content: bytes | None) -> bytes:
        """Raises ValueError with a sentence that says what was found, what was expected and how to fix it."""
        try:
            require_usable(
                self._settings.state, self._settings.database_url(), blobs_elsewhere=self._settings.blobs is not None
            )
            with in_use(self._settings.state), closing(Database(self._settings.database_url())) as database:
                answer = self._ask(database, method, path.strip("/").split("/")[1:], params, content)
        except (ServiceError, ValidationError) as error:
            raise ValueError(str(error)) from error
        except OSError as error:
            raise ValueError(
                f"{error.filename}: {error.strerror}, expected a folder in which this user may write. "
                "Fix: give the server's state folder with --state DIR"
            ) from error
        return b"" if answer is None else answer.model_dump_json().encode()

    def _ask(
        self, database: Database, method: str, where: list[str], params: Mapping[str, str | int], content: bytes | None
    ) -> BaseModel | None:
        tokens = TokenStore(database)
        tenant = params.get("tenant")
        match method, where:
            case "POST", []:
                return self._create(tokens, NewToken.model_validate_json(content or b""))
            case "GET", []:
                found = tokens.list(None if tenant is None else str(tenant))
                uploads = Uploads(self._settings.state / "datasets" / "uploads")
                return listed(found, Holdings(database, uploads).used_by(found))
            case "POST", [name, "rotate"]:
                return _made(*tokens.rotate(name, _tenant(tenant)))
            case "DELETE", [name]:
                tokens.revoke(name, _tenant(tenant))
                return None
        raise RequestInvalid(f"found {method} of {'/'.join(where)[:80]!r}, expected a route of /tokens")

    def _create(self, tokens: TokenStore, wanted: NewToken) -> TokenMade:
        made = tokens.create(
            require_name(wanted.name, "token name"),
            wanted.scopes,
            _tenant(wanted.tenant),
            wanted.lifetime_s,
            Quotas(**wanted.quotas.model_dump()),
            first_must_be_admin=self._settings.token is None,
        )
        return _made(*made)


def _tenant(name: str | int | None) -> str:
    return DEFAULT_TENANT if name is None else require_tenant(str(name))


def _made(token: Token, secret: str) -> TokenMade:
    return TokenMade(**TokenInfo.model_validate(token).model_dump(), secret=secret)
