"""The server's messages name HTTP routes; for a reader of ours each becomes what that reader can call or type."""

from __future__ import annotations

import re

CALLS = {  # a route as the server writes it in its messages, and the call of the SDK that does the same
    "DELETE /datasets/{name}/unlabelled": "`client.pools.delete(NAME)`",
    "GET /adapters": "`client.adapters.list()`",
    "GET /datasets": "`client.datasets.list()`",
    "GET /jobs": "`client.jobs.list()`",
    "GET /jobs/{id}/files": "`job.files()`",
    "GET /limits": "`client.limits()`",
    "POST /datasets/{name}/labels": "`client.pools.label(NAME, LABELS, WHO)`",
    "POST /datasets/{name}/next": "`client.pools.next(NAME, ADAPTER)`",
    "POST /jobs/{id}/retry": "`job.retry()`",
    "POST /predict": "`client.segment(IMAGE, ADAPTER)`",
    "PUT /adapters/{name}": "`client.adapters.push(FILE, NAME)`",
    "PUT /adapters/{name}/aliases/{alias}": "`client.adapters.alias(NAME, ALIAS, VERSION)`",
}
COMMANDS = {  # the same for the command line
    "DELETE /datasets/{name}/unlabelled": "`client.pools.delete(NAME)` of the SDK",  # no command deletes a pool
    "GET /adapters": "`lensmount adapters list`",
    "GET /datasets": "`lensmount datasets list`",
    "GET /jobs": "`lensmount jobs list`",
    "GET /jobs/{id}/files": "`lensmount jobs show ID`",
    "GET /limits": "/limits at the server's address",  # no command shows the limits
    "POST /datasets/{name}/labels": "`lensmount datasets label NAME`",
    "POST /datasets/{name}/next": "`lensmount datasets next NAME`",
    "POST /jobs/{id}/retry": "`lensmount jobs retry ID`",
    "POST /predict": "`lensmount predict`",
    "PUT /adapters/{name}": "`lensmount adapters push FILE`",
    "PUT /adapters/{name}/aliases/{alias}": "`lensmount adapters alias NAME ALIAS`",
}
ROUTE = re.compile(r"\b(?:GET|POST|PUT|DELETE) /[\w/{}-]*")
_ROUTE_OF_CALL = {call: route for route, call in CALLS.items()}
_ROUTE_OR_CALL = re.compile("|".join([ROUTE.pattern, *map(re.escape, _ROUTE_OF_CALL)]))


def for_python(message: str) -> str:
    """The server's message with calls of the SDK. A route that only a newer server knows stays as it is."""
    return ROUTE.sub(lambda found: CALLS.get(found[0], found[0]), message)


def for_command_line(message: str) -> str:
    """The message, of the server or of the SDK, with commands."""
    return _ROUTE_OR_CALL.sub(lambda found: COMMANDS.get(_ROUTE_OF_CALL.get(found[0], found[0]), found[0]), message)
