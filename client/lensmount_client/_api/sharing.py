"""The endpoints that share an adapter or a dataset with all tenants: one function each, from arguments to a Call."""

from __future__ import annotations

from typing import Literal

from lensmount_client._api.read import nothing
from lensmount_client._http.call import Call
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.response import Response
from lensmount_client._reference import checked_name, plain_name

Kind = Literal["adapter", "dataset"]


def share(kind: Kind, name: str, public_name: str | None) -> Call[str]:
    """Returns public/NAME."""

    def read(response: Response) -> str:
        return JsonFields.of(response).string("public_name")

    params = {} if public_name is None else {"as": plain_name(public_name, f"public {kind} name")}
    return Call("PUT", _path(kind, name), read, params=params)


def unshare(kind: Kind, name: str) -> Call[None]:
    return Call("DELETE", _path(kind, name), nothing, gone_is_done=True)


def _path(kind: Kind, name: str) -> str:
    return f"/{kind}s/{checked_name(name, f'{kind} name')}/shared"
