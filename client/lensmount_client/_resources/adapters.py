"""The `adapters` of a client: list, push and pull adapters of the server."""

from __future__ import annotations

import asyncio
import builtins
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lensmount_client._api import adapters as endpoints
from lensmount_client._api import sharing
from lensmount_client._errors import InvalidInput
from lensmount_client._files.exported import ExportFolder
from lensmount_client._files.foreign_adapter import CONFIG, foreign_name, packed
from lensmount_client._files.paths import is_file, read_file
from lensmount_client._files.signing import sign_file
from lensmount_client._http.call import Call
from lensmount_client._http.download import Download, download_target
from lensmount_client._http.operation import AsyncSendCall, SendCall
from lensmount_client._reference import checked_name, plain_name
from lensmount_client._types.results import (
    AdapterFile,
    AdapterId,
    AdapterInfo,
    AdapterStats,
    Alias,
    AliasTrust,
    DeletedVersion,
    Export,
    Imported,
    PushedAdapter,
    VersionInfo,
)


class Adapters:
    """`client.adapters.push("malaria.safetensors").version`."""

    def __init__(self, send: SendCall) -> None:
        self._send = send

    def get(self, name: str) -> AdapterInfo:
        """One adapter with its manifest. Raises AdapterNotFound."""
        return self._send(endpoints.get_adapter(name))

    def version(self, name: str, version: int) -> VersionInfo:
        """One version with its manifest. Raises VersionNotFound, or VersionDeleted."""
        return self._send(endpoints.get_version(name, version))

    def stats(self, name: str) -> AdapterStats:
        """How the own tenant used an adapter since the server started. Raises AdapterNotFound."""
        return self._send(endpoints.get_stats(name))

    def push(
        self,
        path: str | Path,
        name: str | None = None,
        *,
        accept_rounded_backbone: bool = False,
        if_match: str | None = None,
        sign_with: str | Path | None = None,
        signature: str | None = None,
    ) -> PushedAdapter:
        """Upload a file, by default under its own name without the suffix. The same bytes make no second version.

        With `accept_rounded_backbone`, an adapter that was made for the server's weights in another precision is
        changed into one for the server's; `note` says how much its logits change.
        With `if_match`, a digest, the upload is refused with PreconditionFailed unless the latest version has it: so
        two people who replace the same adapter notice each other. The server compares the bytes with their digest.
        With `sign_with`, a private key, the file is signed; `signature` is one that was made before. Some servers take
        only what a trusted key has signed: SignatureRequired, SignatureKeyUnknown, SignatureInvalid.
        Raises AdapterRejected if the server rejects the adapter, AdapterMismatch if it received different bytes.
        """
        return self._send(_push_call(path, name, accept_rounded_backbone, if_match, sign_with, signature))

    def fetch(
        self, name: str, url: str, digest: str, *, if_match: str | None = None, signature: str | None = None
    ) -> PushedAdapter:
        """Let the server fetch a file from a URL: https://HOST/PATH, hf://OWNER/REPO[@REVISION]/PATH or s3://BUCKET/KEY.

        `digest` ("sha256:...") pins the bytes; others are refused with DigestMismatch. The file is checked like one
        that is pushed, and `if_match` and `signature` are as in `push`. Raises SourceNotAllowed unless the server's
        operator lists the host, and SourceUnavailable if the URL does not give the file.
        """
        return self._send(endpoints.fetch(name, url, digest, if_match, signature))

    def import_(
        self,
        path: str | Path,
        name: str | None = None,
        *,
        labels: Sequence[str] = (),
        preprocessing: Mapping[str, Any] | None = None,
        head: str | Path | None = None,
        source: str | None = None,
        dry_run: bool = False,
    ) -> Imported:
        """Import an adapter of PEFT, LyCORIS or kohya's scripts: a folder that save_pretrained wrote, or a file.

        The server converts it for its backbone. `name` is by default that of the folder or file. `labels` name the
        classes in the order of the classifier's rows. `preprocessing` gives fields of the rule that differ from the
        backbone's own, such as {"resize": "squash"}. `head` is a file with the classifier, for an adapter without one.
        `source` is where the adapter came from, by default the path. A dry run returns the report and stores nothing.
        Raises AdapterRejected with what the file is and which command helps.
        """
        return self._send(_import_call(path, name, labels, preprocessing, head, source, dry_run=dry_run))

    def pull(self, name: str, path: str | Path, version: int | None = None) -> AdapterFile:
        """Download to a file, or as NAME.safetensors into a folder. An existing file is replaced only by a complete
        one with the correct digest.
        """
        with Download(download_target(path, f"{plain_name(name)}.safetensors")) as download:
            return self._send(endpoints.pull(name, version, download))

    def export(self, name: str, to: str, out: str | Path | None = None, version: int | None = None) -> Export:
        """Download it in another tool's format, into a new folder, by default NAME-FORMAT here.

        `to`: peft, lycoris, timm, onnx, openvino or torchscript. Raises ExportNotPossible, which names a format that
        can hold the adapter, or InvalidInput for a folder with files.
        """
        with ExportFolder(_export_folder(name, to, out)) as folder, Download(folder.zip_path) as download:
            return folder.unpack(self._send(endpoints.export(name, to, version, download)), to)

    def delete(
        self, name: str, version: int | None = None, *, purge: bool = False, if_match: str | None = None
    ) -> None:
        """Delete one version, or the adapter with all its versions and aliases.

        `undelete` takes it back for the time that the server keeps it (by default 7 days). With `purge` it is gone for
        good, and its space is free at once. `if_match` as in `push`.
        """
        return self._send(endpoints.delete(name, version, purge=purge, if_match=if_match))

    def undelete(self, name: str, version: int | None = None) -> AdapterInfo:
        """Undo the latest delete of an adapter, or that of one version. Returns the adapter as it is again.

        An alias that was set since the delete stays where it is. Raises AdapterNotFound, or VersionDeleted for a
        version that the server no longer keeps.
        """
        self._send(endpoints.undelete(name, version))
        return self.get(name)

    def deleted(self) -> builtins.list[DeletedVersion]:
        """The versions that `undelete` takes back."""
        return self._send(endpoints.list_deleted())

    def release(self, name: str, version: int) -> AdapterId:
        """Let the server compute a version again that it quarantined because it failed too often."""
        return self._send(endpoints.release(name, version))

    def alias(
        self,
        name: str,
        alias: str,
        version: int,
        *,
        trust: AliasTrust | None = None,
        protected: bool | None = None,
        if_match: str | None = None,
    ) -> Alias:
        """Point `name:alias` to this version from now on.

        `trust` replaces the alias's thresholds, and `AliasTrust()` removes them. Without it they stay.
        Only an administrator sets `protected`, and moves or deletes a protected alias. Raises AliasProtected.
        Raises InvalidRequest for a threshold of what the version does not measure.
        """
        return self._send(endpoints.set_alias(name, alias, version, trust, protected, if_match))

    def unalias(self, name: str, alias: str) -> None:
        """Remove an alias; the version stays."""
        return self._send(endpoints.delete_alias(name, alias))

    def list(self, *, public: bool = False) -> builtins.list[AdapterInfo]:
        """All adapters, without their manifests; with `public`, those that tenants share as public/NAME."""
        return self._send(endpoints.list_adapters(public))

    def share(self, name: str, public_name: str | None = None) -> str:
        """Let all tenants read it. Returns `public/NAME`, by default with its own name. Raises PublicNameTaken."""
        return self._send(sharing.share("adapter", name, public_name))

    def unshare(self, name: str) -> None:
        """Share it no longer."""
        return self._send(sharing.unshare("adapter", name))


class AsyncAdapters:
    """Like `Adapters`, for AsyncClient: `(await client.adapters.push("malaria.safetensors")).version`."""

    def __init__(self, send: AsyncSendCall) -> None:
        self._send = send

    async def get(self, name: str) -> AdapterInfo:
        """See `Adapters.get`."""
        return await self._send(endpoints.get_adapter(name))

    async def version(self, name: str, version: int) -> VersionInfo:
        """See `Adapters.version`."""
        return await self._send(endpoints.get_version(name, version))

    async def stats(self, name: str) -> AdapterStats:
        """See `Adapters.stats`."""
        return await self._send(endpoints.get_stats(name))

    async def push(
        self,
        path: str | Path,
        name: str | None = None,
        *,
        accept_rounded_backbone: bool = False,
        if_match: str | None = None,
        sign_with: str | Path | None = None,
        signature: str | None = None,
    ) -> PushedAdapter:
        """See `Adapters.push`."""
        return await self._send(
            await asyncio.to_thread(_push_call, path, name, accept_rounded_backbone, if_match, sign_with, signature)
        )

    async def fetch(
        self, name: str, url: str, digest: str, *, if_match: str | None = None, signature: str | None = None
    ) -> PushedAdapter:
        """See `Adapters.fetch`."""
        return await self._send(endpoints.fetch(name, url, digest, if_match, signature))

    async def import_(
        self,
        path: str | Path,
        name: str | None = None,
        *,
        labels: Sequence[str] = (),
        preprocessing: Mapping[str, Any] | None = None,
        head: str | Path | None = None,
        source: str | None = None,
        dry_run: bool = False,
    ) -> Imported:
        """See `Adapters.import_`."""
        call = functools.partial(_import_call, path, name, labels, preprocessing, head, source, dry_run=dry_run)
        return await self._send(await asyncio.to_thread(call))

    async def pull(self, name: str, path: str | Path, version: int | None = None) -> AdapterFile:
        """See `Adapters.pull`."""
        with Download(download_target(path, f"{plain_name(name)}.safetensors")) as download:
            return await self._send(endpoints.pull(name, version, download))

    async def export(self, name: str, to: str, out: str | Path | None = None, version: int | None = None) -> Export:
        """See `Adapters.export`."""
        with ExportFolder(_export_folder(name, to, out)) as folder, Download(folder.zip_path) as download:
            zipped = await self._send(endpoints.export(name, to, version, download))
            return await asyncio.to_thread(folder.unpack, zipped, to)

    async def delete(
        self, name: str, version: int | None = None, *, purge: bool = False, if_match: str | None = None
    ) -> None:
        """See `Adapters.delete`."""
        return await self._send(endpoints.delete(name, version, purge=purge, if_match=if_match))

    async def undelete(self, name: str, version: int | None = None) -> AdapterInfo:
        """See `Adapters.undelete`."""
        await self._send(endpoints.undelete(name, version))
        return await self.get(name)

    async def deleted(self) -> builtins.list[DeletedVersion]:
        """See `Adapters.deleted`."""
        return await self._send(endpoints.list_deleted())

    async def release(self, name: str, version: int) -> AdapterId:
        """See `Adapters.release`."""
        return await self._send(endpoints.release(name, version))

    async def alias(
        self,
        name: str,
        alias: str,
        version: int,
        *,
        trust: AliasTrust | None = None,
        protected: bool | None = None,
        if_match: str | None = None,
    ) -> Alias:
        """See `Adapters.alias`."""
        return await self._send(endpoints.set_alias(name, alias, version, trust, protected, if_match))

    async def unalias(self, name: str, alias: str) -> None:
        """See `Adapters.unalias`."""
        return await self._send(endpoints.delete_alias(name, alias))

    async def list(self, *, public: bool = False) -> builtins.list[AdapterInfo]:
        """See `Adapters.list`."""
        return await self._send(endpoints.list_adapters(public))

    async def share(self, name: str, public_name: str | None = None) -> str:
        """See `Adapters.share`."""
        return await self._send(sharing.share("adapter", name, public_name))

    async def unshare(self, name: str) -> None:
        """See `Adapters.unshare`."""
        return await self._send(sharing.unshare("adapter", name))


def _import_call(
    path: str | Path,
    name: str | None,
    labels: Sequence[str],
    preprocessing: Mapping[str, Any] | None,
    head: str | Path | None,
    source: str | None,
    *,
    dry_run: bool,
) -> Call[Imported]:
    name = checked_name(foreign_name(Path(path)) if name is None else name)
    rule = None if preprocessing is None else json.dumps(dict(preprocessing))
    content = packed(Path(path), labels, None if head is None else Path(head))
    origin = str(path) if source is None else source
    return endpoints.import_(name, content, preprocessing=rule, source=origin, dry_run=dry_run)


def _export_folder(name: str, to: str, out: str | Path | None) -> Path:
    return Path(f"{plain_name(name)}-{checked_name(to, 'format')}") if out is None else Path(out)


def _push_call(
    path: str | Path,
    name: str | None,
    accept_rounded_backbone: bool,
    if_match: str | None,
    sign_with: str | Path | None,
    signature: str | None,
) -> Call[PushedAdapter]:
    name = checked_name(Path(path).stem if name is None else name)
    if is_file(Path(path) / CONFIG):
        raise InvalidInput(
            f"{path}: found a folder with an adapter of PEFT, expected a file. Fix: lensmount adapters import {path}, "
            f"or client.adapters.import_({str(path)!r})"
        )
    content = read_file(path)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if sign_with is not None:
        signature = sign_file(content, sign_with)
    return endpoints.push(
        name,
        content,
        digest,
        accept_rounded_backbone=accept_rounded_backbone,
        if_match=if_match,
        signature=signature,
    )
