"""The adapters that a server can mount: uploads are checked here, then stored, registered and kept in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.admission import admit, mismatch
from lensmount_adapters.adapter.file import digest_of
from lensmount_adapters.adapter.header import Limits
from lensmount_adapters.adapter.manifest_check import check_texts
from lensmount_adapters.adapter.rebind import rebound
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import AdapterError, BackboneMismatch
from lensmount_adapters.faults import fault
from lensmount_adapters.runners.runner import Runner
from lensmount_service.errors import ServiceError, Unusable
from lensmount_service.metrics import Metrics
from lensmount_service.quarantine import Quarantine
from lensmount_service.store.adapter_cache import AdapterCache
from lensmount_service.store.adapter_rows import not_computed
from lensmount_service.store.aliases import Aliases
from lensmount_service.store.blobs import Blobs
from lensmount_service.store.keys import DEFAULT_TENANT, tenant_of
from lensmount_service.store.precondition import ANY, Precondition
from lensmount_service.store.references import Reference, require_key
from lensmount_service.store.registry import Deleted, Entry, Registry, Version
from lensmount_service.store.signatures import Signatures

log = structlog.get_logger(__name__)

_NO_DIGEST = f"sha256:{'':0>64}"  # of no file: where one is that nobody has read

Publish = Callable[[str, Adapter, str | None], tuple[Version, bool]]  # with the signature


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The adapter that answers a request. Later changes to its name do not affect the request."""

    version: Version
    adapter: Adapter
    instead_of: int | None = None  # the version that was asked for and is quarantined
    reader: str = DEFAULT_TENANT  # the tenant that asked
    place: float | None = None  # of the request's key in [0, 1), if a rollout gave it this version by its key
    shadowed: bool = False  # whether the shadow of its rollout computes the images too

    @property
    def title(self) -> str:
        """Which bytes answer, for messages."""
        return title_of(self.version)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who uploads, and the signature. Test images take turns of `caller`, and `charge` gets their pixels."""

    owner: str | None = None
    caller: str = ""
    charge: Callable[[int], object] = lambda pixels: None
    signature: str | None = None


NOBODY = Sender()


def title_of(version: Version) -> str:
    return f"{version.name}@{version.version} ({version.digest})"


Trial = Callable[[Adapter, Sender], object]


class Catalog:
    """`catalog.upload("malaria", data)`, `catalog.resolve(Reference.parse("malaria"))`; safe from any thread."""

    def __init__(
        self,
        backbone: Backbone,
        registry: Registry,
        blobs: Blobs,
        limits: Limits,
        cache_bytes: int,
        metrics: Metrics,
        runner: Runner,
        pinned: Iterable[str] = (),
    ) -> None:
        self.backbone = backbone
        self.limits = limits
        self._registry = registry
        self._blobs = blobs
        self._metrics = metrics
        self._runner = runner
        self.signatures = Signatures()
        self._quarantine = Quarantine()
        self._trial: Trial = lambda adapter, sender: None
        self._pinned: dict[str, str | None] = dict.fromkeys(pinned)  # name to its pinned digest
        self._cache = AdapterCache(self._load, cache_bytes, self._evicted)
        self._asked: dict[str, set[str]] = {}  # by digest in memory: the tenants that used it
        self._writing = threading.Lock()  # no delete between the insert of a row and the check that its file exists
        self._observing = threading.Lock()  # the metrics show the sum that was computed last

    def watch(self, quarantine: Quarantine, trial: Trial) -> None:
        """Serve nothing that is in `quarantine`, and try each new adapter by `trial`, which raises AdapterError."""
        self._quarantine, self._trial = quarantine, trial

    def upload(
        self,
        name: str,
        data: bytes,
        publish: Publish | None = None,
        *,
        accept_rounded_backbone: bool = False,
        sender: Sender = NOBODY,
        expected: Precondition = ANY,
    ) -> tuple[Version, bool]:
        """Check, store and publish an adapter. Returns its version, and True if the version is new.

        A refusal changes nothing that is served. `publish` inserts the row, by default `Registry.publish`. With
        `accept_rounded_backbone`, a file for the same weights in another precision becomes one for the weights here.
        """
        require_key(name)
        signature = self.signatures.checked(digest_of(data), sender.signature)
        if accept_rounded_backbone and (moved := rebound(data, self.backbone, self.limits)) is not None:
            data = moved.data
            signature = self.signatures.own(digest_of(data))
        adapter = admit(data, self.backbone, self.limits)
        self._registry.require(name, expected, adapter.digest, adapter.size_bytes, sender.owner)  # before the work
        check_texts(adapter.manifest)
        self._runner.check(adapter)
        self._trial(adapter, sender)
        self._blobs.put(data)
        fault("catalog.stored")
        with self._writing:
            version, created = (publish or partial(self._publish, sender.owner, expected))(name, adapter, signature)
            fault("catalog.committed")
            self._blobs.put_again(data)  # it may have been deleted since, or by a `gc` that saw no row for it
            self._pin(name, adapter.digest)  # under the lock, so in the order of publication
        if self._quarantine.mended(adapter.digest):  # `put` has repaired its file
            self._metrics.quarantined.set(len(self._quarantine))
        fault("catalog.published")
        self._cache.put(adapter)
        self._runner.prefetch(adapter)
        self._observe_cache()
        log.info("adapter published", adapter=name, version=version.version, digest=version.digest, created=created)
        return version, created

    def resolve(self, reference: Reference, reader: str = DEFAULT_TENANT, *, own: bool = True) -> Snapshot:
        """The snapshot that answers. Raises NotFound, VersionDeleted, BackboneMismatch or Unavailable.

        A name or an alias of a version that is quarantined or damaged falls back to the newest version that works.
        `reader` is the tenant that asks; `own` says that it may change the adapter.
        """
        version = self._registry.resolve(reference)
        if not self.backbone.fits(version.manifest.backbone):
            why = mismatch(version.manifest, self.backbone)
            raise BackboneMismatch(f"{version.name!r} version {version.version}: {why}")
        self.signatures.require(title_of(version), version.digest, version.signature)
        held = self._quarantine.held(version.digest, reader)
        failure = None if held is None else not_computed(title_of(version), version, held, own)
        if failure is None:
            try:
                return self._snapshot(version)
            except Unusable as error:
                failure = error
        pinned = reference.version is not None or reference.digest is not None
        earlier = None if pinned else self._newest_that_works(version, reader)
        if earlier is None:
            raise failure
        return earlier

    def _snapshot(self, version: Version) -> Snapshot:
        try:
            return Snapshot(version, self._cache.get(version.digest))
        except Unusable as error:
            raise Unusable(f"{title_of(version)}: {error}", code=error.code) from error

    def _newest_that_works(self, asked: Version, reader: str) -> Snapshot | None:
        """The newest version before `asked` that can be computed, with the thresholds of the alias."""
        for version in reversed(self._registry.entry(asked.name).versions):
            fits = self.backbone.fits(version.manifest.backbone)
            trusted = self.signatures.accepts(version.digest, version.signature)
            held = self._quarantine.holds(version.digest, reader)
            if version.version >= asked.version or not fits or not trusted or held:
                continue
            try:
                found = self._snapshot(replace(version, thresholds=asked.thresholds))
            except Unusable:
                continue
            return replace(found, instead_of=asked.version)
        return None

    def release(self, name: str, number: int, expected: Precondition = ANY) -> Version:
        """Compute a quarantined version again. Releasing one that is not quarantined changes nothing."""
        version = self._registry.resolve(Reference(name, number))
        expected.require(version.digest)
        if self._quarantine.release(version.digest):
            self._metrics.quarantined.set(len(self._quarantine))
            log.info("adapter released", adapter=name, version=number, digest=version.digest)
        return version

    def resolve_cached(self, reference: Reference, reader: str = DEFAULT_TENANT) -> Snapshot | None:
        """The result of `resolve` if all of it is in memory, or None. Never blocks, so an event loop may call it."""
        version = self._registry.resolve_cached(reference)
        if version is None or not self.backbone.fits(version.manifest.backbone):
            return None
        if self._quarantine.holds(version.digest, reader):
            return None
        if not self.signatures.accepts(version.digest, version.signature):
            return None
        adapter = self._cache.find(version.digest)
        return None if adapter is None else Snapshot(version, adapter)

    def version(self, reference: Reference) -> Version:
        return self._registry.resolve(reference)

    def entries(self, tenant: str | None = None) -> list[Entry]:
        """The adapters of all tenants, or of one."""
        return self._registry.entries(tenant)

    def entry(self, name: str) -> Entry:
        return self._registry.entry(name)

    def read(self, version: Version) -> bytes:
        """The file, byte for byte as uploaded."""
        try:
            return self._blobs.get(version.digest)
        except Unusable as error:
            raise Unusable(f"{title_of(version)}: {error}", code=error.code) from error

    def delete(
        self,
        name: str,
        number: int | None = None,
        *,
        purge: bool = False,
        is_admin: bool = True,
        expected: Precondition = ANY,
    ) -> None:
        """Requests in progress finish with their snapshot. New requests no longer find the adapter.

        `undelete` takes it back, and its file stays until then. With `purge` both are gone for good, and this works on
        a full disk too.
        """
        with self._writing:
            for digest in self._registry.delete(name, number, purge=purge, is_admin=is_admin, expected=expected):
                fault("catalog.deleted")
                with self._registry.alone() as needed:  # no server can publish the same bytes meanwhile
                    if digest not in needed:
                        self._blobs.delete(digest)
                self._cache.drop(digest)
                if self._pinned.get(name) == digest:
                    self._pinned[name] = None
                self._runner.forget(digest)
        self._registry.refill()
        self._observe_cache()
        log.info("adapter deleted", adapter=name, version=number, purged=purge)

    def undelete(self, name: str, number: int | None = None, expected: Precondition = ANY) -> list[int]:
        """Take back the latest delete of an adapter, or that of one version. Returns the versions that are back."""
        with self._writing:
            back = self._registry.undelete(name, number, expected)
        log.info("adapter undeleted", adapter=name, versions=back)
        return back

    def deleted(self, tenant: str | None = None) -> list[Deleted]:
        return self._registry.deleted(tenant)

    @property
    def aliases(self) -> Aliases:
        return self._registry

    def status(self, version: Version, reader: str = DEFAULT_TENANT) -> str:
        if not self.backbone.fits(version.manifest.backbone):
            return "backbone_mismatch"
        if not self.signatures.accepts(version.digest, version.signature):
            return "untrusted"
        return "quarantined" if self._quarantine.holds(version.digest, reader) else "ready"

    def tier(self, version: Version) -> str:
        """Where a version is: hot or merged (merged weights in memory), memory (factors in memory), file or remote."""
        return self.tier_in_memory(version.digest) or self._blobs.tier(version.digest)

    def unload(self, digest: str, tenant: str) -> None:
        """Drop a version from memory, unless it is pinned or another tenant has used it. Its file stays."""
        used = self._asked.get(digest, set())
        used.discard(tenant)
        if not used and digest not in self._pinned.values():
            self._asked.pop(digest, None)
            self._cache.drop(digest)
            self._runner.forget(digest)
            self._observe_cache()

    def asked(self, digest: str, tenant: str) -> None:
        """Note that a tenant used a version, for `tier_for`."""
        self._asked.setdefault(digest, set()).add(tenant)

    def tier_for(self, version: Version, tenant: str) -> str:
        """`tier` as far as the tenant's own use explains it: whether another has the same bytes is not told."""
        known = tenant in self._asked.get(version.digest, ())
        return self.tier(version) if known else self._blobs.tier(_NO_DIGEST)

    def pinned(self) -> frozenset[str]:
        """The names whose latest version is never evicted."""
        return frozenset(self._pinned)

    def latest_digests(self) -> dict[str, str]:
        return self._registry.latest_digests()

    def tier_in_memory(self, digest: str) -> str:
        return self._runner.tier(digest) or ("memory" if self._cache.holds(digest) else "")  # "": only a file

    def tiers_in_memory(self) -> dict[str, str]:
        """The tier of each version in memory, by digest."""
        return {digest: self.tier_in_memory(digest) for digest in self._cache.digests()}

    def warm(self, most: int = 64) -> list[Adapter]:
        """Load adapters before their first request: the pinned ones, then the others by name."""
        loaded = []
        entries = sorted(self.entries(), key=lambda entry: entry.latest.name not in self._pinned)
        for entry in entries[: max(most, len(self._pinned))]:
            if self.status(entry.latest) != "ready":
                continue
            reference = Reference(entry.latest.name)
            try:
                if reference.name in self._pinned:
                    with self._writing:  # there may be a newer version than in `entries`
                        self._pin(reference.name, self._registry.resolve(reference).digest)
                found = self.resolve(reference)
                self.asked(found.version.digest, tenant_of(reference.name))
                loaded.append(found.adapter)
            except (AdapterError, ServiceError) as error:  # its first request will report the error
                log.warning("adapter not warmed", adapter=reference.name, reason=str(error))
        return loaded

    def load_zoo(self, folder: Path) -> list[str]:
        """Publish the zoo adapters whose names were never used here. Returns the names published."""
        published = []
        for path in sorted(folder.glob("*.safetensors")):
            name = path.stem
            if self._registry.was_ever_published(name):
                continue
            try:
                data = path.read_bytes()
                self.upload(name, data, sender=Sender(signature=self.signatures.own(digest_of(data))))
                published.append(name)
            except BackboneMismatch as error:
                log.warning("zoo adapter is for another backbone", adapter=name, reason=str(error))
            except (AdapterError, ServiceError) as error:
                log.error("zoo adapter refused", adapter=name, reason=str(error))
        return published

    def _pin(self, name: str, digest: str) -> None:
        """A pinned name pins its newest version. The caller holds `_writing`."""
        if name not in self._pinned or self._pinned[name] == digest:
            return
        before, self._pinned[name] = self._pinned[name], digest
        for holder in (self._cache, self._runner):
            if before is not None:
                holder.pin(before, False)
            holder.pin(digest, True)

    def _publish(
        self, owner: str | None, expected: Precondition, name: str, adapter: Adapter, signature: str | None
    ) -> tuple[Version, bool]:
        what = (adapter.digest, adapter.size_bytes, adapter.manifest)
        return self._registry.publish(name, *what, owner, expected, signature)

    def _load(self, digest: str) -> Adapter:
        start = time.perf_counter()
        data = self._blobs.get(digest)
        try:
            adapter = admit(data, self.backbone, self.limits)
        except AdapterError as error:  # it was admitted before, so a limit or the backbone has changed since
            raise Unusable(f"a published adapter is no longer accepted: {error}", code="adapter_corrupt") from error
        self._runner.prefetch(adapter)
        self._metrics.adapter_load_seconds.labels("file").observe(time.perf_counter() - start)
        self._observe_cache()
        return adapter

    def _evicted(self, adapter: Adapter) -> None:
        self._asked.pop(adapter.digest, None)
        self._runner.forget(adapter.digest)
        self._metrics.adapter_evictions.labels("memory").inc()

    def _observe_cache(self) -> None:
        with self._observing:
            self._metrics.cache_bytes.labels("memory").set(sum(self._cache.resident().values()))
            for tier, nbytes in self._runner.nbytes().items():
                self._metrics.cache_bytes.labels(tier).set(nbytes)
