"""What names, versions, aliases, deletes and undeletes of adapters mean, in plain Python: no disk, no SQL, no HTTP."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field


class Refused(Exception):
    """An answer other than success, by its status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass
class Version:
    """One version. `gone` numbers the delete that took it away, None while it is live."""

    number: int
    digest: str
    gone: int | None = None
    purged: bool = False


@dataclass
class Pointer:
    """Where an alias points, and the delete that took it away."""

    number: int
    gone: int | None = None


@dataclass
class Adapter:
    versions: list[Version] = field(default_factory=list)
    aliases: dict[str, Pointer] = field(default_factory=dict)

    def live(self) -> list[Version]:
        return [version for version in self.versions if version.gone is None and not version.purged]

    def kept(self) -> list[Version]:
        return [version for version in self.versions if version.gone is not None and not version.purged]


class Reference:
    """The adapters of all tenants: `upload("lab1", "cells", digest)` returns the status and the version."""

    def __init__(self) -> None:
        self.adapters: dict[tuple[str, str], Adapter] = defaultdict(Adapter)
        self.deletes = 0

    def upload(self, tenant: str, name: str, digest: str) -> tuple[int, int]:
        adapter = self.adapters[tenant, name]
        live = adapter.live()
        if live and live[-1].digest == digest:
            return 200, live[-1].number
        adapter.versions.append(Version(len(adapter.versions) + 1, digest))
        return 201, len(adapter.versions)

    def delete(self, tenant: str, name: str, number: int | None, purge: bool) -> None:
        adapter = self._existing(tenant, name, or_kept=purge)
        gone = adapter.live() + (adapter.kept() if purge else [])
        if number is not None:
            gone = [self._version(adapter, number, or_kept=purge)]
        self.deletes += 1
        for version in gone:
            version.gone, version.purged = self.deletes, version.purged or purge
        numbers = {version.number for version in gone}
        for alias, pointer in list(adapter.aliases.items()):
            if pointer.number in numbers and purge:
                del adapter.aliases[alias]
            elif pointer.number in numbers and pointer.gone is None:
                pointer.gone = self.deletes

    def undelete(self, tenant: str, name: str, number: int | None) -> None:
        adapter = self._existing(tenant, name, or_kept=True)
        if number is None:
            latest = max((version.gone for version in adapter.kept() if version.gone is not None), default=None)
            back = [version for version in adapter.kept() if version.gone == latest]
        else:
            back = [version for version in [self._version(adapter, number, or_kept=True)] if version.gone is not None]
        for version in back:
            for pointer in adapter.aliases.values():
                if pointer.number == version.number and pointer.gone == version.gone:
                    pointer.gone = None
            version.gone = None

    def point(self, tenant: str, name: str, alias: str, number: int) -> str:
        adapter = self._existing(tenant, name)
        version = self._version(adapter, number)
        adapter.aliases[alias] = Pointer(number)
        return version.digest

    def unpoint(self, tenant: str, name: str, alias: str) -> None:
        adapter = self._existing(tenant, name)
        if alias not in self.aliases(adapter):
            raise Refused(404)
        del adapter.aliases[alias]

    def resolve(self, tenant: str, name: str, number: int | None = None, alias: str | None = None) -> str:
        adapter = self._existing(tenant, name)
        if alias is not None and alias not in self.aliases(adapter):
            raise Refused(404)
        number = adapter.aliases[alias].number if alias is not None else number
        return adapter.live()[-1].digest if number is None else self._version(adapter, number).digest

    def aliases(self, adapter: Adapter) -> dict[str, int]:
        return {alias: pointer.number for alias, pointer in adapter.aliases.items() if pointer.gone is None}

    def _existing(self, tenant: str, name: str, or_kept: bool = False) -> Adapter:
        adapter = self.adapters[tenant, name]
        if not adapter.live() and not (or_kept and adapter.kept()):
            raise Refused(404)
        return adapter

    def _version(self, adapter: Adapter, number: int, or_kept: bool = False) -> Version:
        if number > len(adapter.versions):
            raise Refused(404)
        version = adapter.versions[number - 1]
        if version.purged or (version.gone is not None and not or_kept):
            raise Refused(410)
        return version
