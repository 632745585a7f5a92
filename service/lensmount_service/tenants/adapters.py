"""The adapters that one tenant sees: its own, and those that are shared as public/NAME."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.file import digest_of
from lensmount_adapters.adapter.header import Limits
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.trust.judge import Overrides
from lensmount_service.errors import Forbidden, NotFound, RequestError, Unusable
from lensmount_service.rollout_spec import Rollout
from lensmount_service.store.aliases import By, End, RolloutEvent
from lensmount_service.store.catalog import Catalog, Sender, Snapshot
from lensmount_service.store.keys import is_public, name_of
from lensmount_service.store.precondition import ANY, Precondition
from lensmount_service.store.references import Reference, require_name
from lensmount_service.store.registry import Deleted, Entry, Version
from lensmount_service.store.shares import SEE, Kind, Share
from lensmount_service.tenants.space import Space

Publish = Callable[[str, Adapter, str | None], tuple[Version, bool]]  # with the key of the adapter, and its signature


@dataclass(frozen=True, slots=True)
class TenantAdapters:
    """`adapters.resolve(Reference.parse("malaria"))`: the methods of Catalog for one tenant; safe from any thread.

    Every method raises what that of Catalog raises, and Forbidden (`public_read_only`) if it would change public/NAME.
    """

    catalog: Catalog
    space: Space
    sender: Sender

    @property
    def backbone(self) -> Backbone:
        return self.catalog.backbone

    @property
    def limits(self) -> Limits:
        return self.catalog.limits

    def upload(
        self,
        name: str,
        data: bytes,
        publish: Publish | None = None,
        *,
        accept_rounded_backbone: bool = False,
        signature: str | None = None,
        expected: Precondition = ANY,
    ) -> tuple[Version, bool]:
        with self.space.own(name) as key:
            version, created = self.catalog.upload(
                key,
                data,
                publish,
                accept_rounded_backbone=accept_rounded_backbone,
                sender=replace(self.sender, signature=signature),
                expected=expected,
            )
        self.catalog.asked(version.digest, self.space.tenant)
        return _named(version, name), created

    def own_signature(self, data: bytes) -> str | None:
        """The server's signature of what it made itself. Raises Unsigned if it needs one and has no key."""
        return self.catalog.signatures.own(digest_of(data))

    def require_own_signature(self) -> None:
        """Raises Unsigned if what a job makes could not be stored."""
        self.catalog.signatures.require_own()

    def signer(self, version: Version) -> str | None:
        """The name of the trusted key that signed a version."""
        return self.catalog.signatures.signer(version.digest, version.signature)

    def resolve(self, reference: Reference) -> Snapshot:
        with self.space.reading("adapter", reference.name) as key:
            own, keyed = not is_public(reference.name), _keyed(reference, key)
            try:
                found = self.catalog.resolve(keyed, self.space.tenant, own=own)
            except Unusable:  # damaged, unless somebody removed it meanwhile
                self.catalog.version(keyed)
                raise
            return self._named(found, reference.name)

    def resolve_cached(self, reference: Reference) -> Snapshot | None:
        """Never blocks, so an event loop may call it."""
        key = self.space.key_cached("adapter", reference.name)
        found = None if key is None else self.catalog.resolve_cached(_keyed(reference, key), self.space.tenant)
        return None if found is None else self._named(found, reference.name)

    def version(self, reference: Reference) -> Version:
        with self.space.reading("adapter", reference.name) as key:
            return _named(self.catalog.version(_keyed(reference, key)), reference.name)

    def entries(self) -> list[Entry]:
        """The tenant's own adapters, by name."""
        return [_entry(entry, name_of(entry.latest.name)) for entry in self.catalog.entries(self.space.tenant)]

    def public_entries(self) -> list[Entry]:
        """The shared adapters, by public name."""
        found = []
        for share in self.space.shares.list("adapter"):
            try:
                found.append(_entry(self.catalog.entry(share.key), share.public_name))
            except NotFound:  # deleted meanwhile
                continue
        return found

    def entry(self, name: str) -> Entry:
        with self.space.reading("adapter", name) as key:
            return _entry(self.catalog.entry(key), name)

    def read(self, version: Version) -> bytes:
        try:
            return self.catalog.read(version)
        except Unusable:  # damaged, unless somebody removed it meanwhile
            self.version(Reference(version.name, version.version))
            raise

    def delete(
        self, name: str, number: int | None = None, *, purge: bool = False, expected: Precondition = ANY
    ) -> None:
        """An adapter without versions is shared no longer."""
        with self.space.own(name) as key:
            self.catalog.delete(key, number, purge=purge, is_admin=self._is_admin, expected=expected)
            try:
                self.catalog.entry(key)
            except NotFound:
                self.space.shares.end("adapter", key)

    def release(self, name: str, number: int, expected: Precondition = ANY) -> Version:
        with self.space.own(name) as key:
            return _named(self.catalog.release(key, number, expected), name)

    def undelete(self, name: str, number: int | None = None, expected: Precondition = ANY) -> list[int]:
        with self.space.own(name) as key:
            return self.catalog.undelete(key, number, expected)

    def deleted(self) -> list[Deleted]:
        """The tenant's own versions that can be undeleted."""
        found = self.catalog.deleted(self.space.tenant)
        return [replace(each, version=_named(each.version, name_of(each.version.name))) for each in found]

    def set_alias(
        self,
        name: str,
        alias: str,
        number: int,
        thresholds: Overrides | None = None,
        *,
        rollout: Rollout | None = None,
        protected: bool | None = None,
        expected: Precondition = ANY,
    ) -> Version:
        """Only an administrator of the tenant protects an alias, or changes a protected one."""
        if protected is not None and not self._is_admin:
            raise Forbidden(
                "found a token without the scope admin, expected one that has it to protect an alias. "
                "Fix: leave protected out, or ask an administrator",
                code="alias_protected",
            )
        with self.space.own(name) as key:
            require_name(alias, "alias")
            version = self.catalog.aliases.set_alias(
                key, alias, number, thresholds, rollout=rollout, protected=protected, by=self._by, expected=expected
            )
        return _named(version, name)

    def delete_alias(self, name: str, alias: str, expected: Precondition = ANY) -> None:
        with self.space.own(name) as key:
            self.catalog.aliases.delete_alias(key, alias, by=self._by, expected=expected)

    def end_rollout(self, name: str, alias: str, how: End, expected: Precondition = ANY) -> Version:
        """Only an administrator of the tenant ends the rollout of a protected alias."""
        with self.space.own(name) as key:
            version = self.catalog.aliases.end_rollout(key, alias, how, by=self._by, expected=expected)
        return _named(version, name)

    def rollouts(self, name: str) -> dict[str, Rollout]:
        """Those of one of the tenant's own adapters that have not ended, by alias."""
        with self.space.own(name) as key:
            return self.catalog.entry(key).rollouts

    def rollout_events(self, name: str, alias: str) -> list[RolloutEvent]:
        """What became of the rollouts of an alias, oldest first."""
        with self.space.own(name) as key:
            return self.catalog.aliases.rollout_events(key, alias)

    def share(self, name: str, public_name: str | None = None, expected: Precondition = ANY) -> Share:
        """Let all tenants read an adapter as public/NAME. Raises NameTaken.

        `expected` is about its latest version. Later versions are shared too, so no transaction has to hold both.
        """
        with self.space.own(name) as key:
            expected.require(self.catalog.entry(key).latest.digest)
            return self.space.shares.add("adapter", public_name or name, key, self.space.identity.actor)

    def unshare(self, name: str, expected: Precondition = ANY) -> None:
        """Raises NotFound if it is not shared."""
        with self.space.own(name) as key:
            expected.require(self.catalog.entry(key).latest.digest)
            if not self.space.shares.end("adapter", key):
                raise not_shared("adapter", name)

    def status(self, version: Version) -> str:
        return self.catalog.status(version, self.space.tenant)

    def unload(self, reference: Reference) -> None:
        """Give back the memory of a version, or of all versions of a name, as far as no other tenant uses the bytes."""
        with self.space.reading("adapter", reference.name) as key:
            if key in self.catalog.pinned():
                raise RequestError(
                    f"found {reference.name!r}, which the operator keeps in memory, expected another adapter. "
                    "Fix: leave it there, or ask the operator to take it out of LENSMOUNT_PINNED"
                )
            keyed = _keyed(reference, key)
            alone = keyed == Reference(key)
            versions = self.catalog.entry(key).versions if alone else (self.catalog.version(keyed),)
        for version in versions:
            self.catalog.unload(version.digest, self.space.tenant)

    def tier(self, version: Version) -> str:
        return self.catalog.tier_for(version, self.space.tenant)

    @property
    def _is_admin(self) -> bool:
        return self.space.identity.may("admin")

    @property
    def _by(self) -> By:
        return By(self.space.identity.actor, self._is_admin)

    def _named(self, snapshot: Snapshot, name: str) -> Snapshot:
        self.catalog.asked(snapshot.version.digest, self.space.tenant)
        if snapshot.version.name == name and snapshot.reader == self.space.tenant:
            return snapshot
        return replace(snapshot, version=_named(snapshot.version, name), reader=self.space.tenant)


def not_shared(kind: Kind, name: str) -> NotFound:
    return NotFound(
        f"found {name[:80]!r}, which is not shared, expected a shared {kind}. {SEE[kind]}",
        code=f"{kind}_not_found",
    )


def _keyed(reference: Reference, key: str) -> Reference:
    return reference if reference.name == key else replace(reference, name=key)


def _named(version: Version, name: str) -> Version:
    """The version under the name by which it was asked for. Who works on it is its own tenant's business."""
    if version.name == name:
        return version
    if not is_public(name):
        return replace(version, name=name)
    return replace(version, name=name, owner=None, rollout=_unsigned(version.rollout))


def _unsigned(rollout: Rollout | None) -> Rollout | None:
    return None if rollout is None else replace(rollout, started_by=None)


def _entry(entry: Entry, name: str) -> Entry:
    if entry.latest.name == name:
        return entry
    found = entry.rollouts
    if is_public(name):
        found = {alias: replace(rollout, started_by=None) for alias, rollout in found.items()}
    return replace(entry, versions=tuple(_named(version, name) for version in entry.versions), rollouts=found)
