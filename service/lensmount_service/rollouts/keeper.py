"""Looks after the rollouts of a server: stores the evidence every second, and takes back what breaks a rule.

Several servers may share a database. Each adds its own evidence, each looks at the sum, and the first one to take a
rollout back ends it for all: it compares the rollout's id in the transaction that points the alias at the stable
version. The others see that at their next request, as they see every change of an alias.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import structlog

from lensmount_service.background_thread import BackgroundThread
from lensmount_service.errors import NotFound, ServiceError
from lensmount_service.metrics import Metrics
from lensmount_service.rollout_spec import Side, stored_rollout
from lensmount_service.rollouts.evidence import Evidence
from lensmount_service.rollouts.rows import Rows
from lensmount_service.rollouts.rules import RULES, Finding
from lensmount_service.rollouts.shown import Showing, Shown
from lensmount_service.rollouts.tally import Counts
from lensmount_service.store.adapter_rows import alias_row
from lensmount_service.store.aliases import Aliases, By, Running, Target
from lensmount_service.store.database import Database
from lensmount_service.store.memo import StampedCache

log = structlog.get_logger(__name__)

TURN_S = 1.0
TIDY_S = 3600.0  # between two looks for rows of rollouts that ended

Prepare = Callable[[Sequence[Running]], object]  # make the candidates of these rollouts ready on this server
Tell = Callable[[Running, Sequence[Finding]], object]  # note in the audit log that a rollout was taken back


@dataclass(eq=False)
class Keeper(BackgroundThread):
    """`with Keeper(database, evidence, metrics): ...`; any thread may read `keeper.running`."""

    database: Database
    evidence: Evidence
    metrics: Metrics
    prepare: Prepare = lambda running: None
    tell: Tell = lambda running, findings: None

    def __post_init__(self) -> None:
        super().__init__("lensmount-rollouts")
        self.running: tuple[Running, ...] = ()
        self.rows = Rows(self.database)
        self.shown = Showing(self.rows, self.evidence)
        self._aliases = Aliases(self.database)
        self._found: StampedCache[str, tuple[Running, ...]] = StampedCache(self.database.stamp)
        self._tidied_at = 0.0
        for rule in RULES:  # from 0, so that the first one is an increase
            self.metrics.rollbacks.labels(rule)
        self._count(Counts())

    def _run(self) -> None:
        while not self._ended.wait(TURN_S):
            try:
                self.turn()
            except ServiceError as error:
                log.warning("rollouts not looked after", reason=str(error))
            except Exception:  # the loop's boundary: whatever one turn met, the next one tries again
                log.exception("rollouts not looked after")
        self._store_the_last()

    def turn(self) -> None:
        """One look at all rollouts. With none, it asks the database whether there was a write, and no more."""
        running = self._found.get_or_load("running", lambda _: tuple(self._aliases.rollouts()))
        if {each.rollout.id for each in self.running} - {each.rollout.id for each in running}:
            self._forget([each.rollout.id for each in running])
        self.running = running
        self.metrics.rollouts.set(len(running))
        self._store(running)
        if running:
            self.prepare(running)
        for each in running:
            if each.rollout.canary is not None:
                self._judge(each)
        self._tidy(running)

    def _store(self, running: Sequence[Running]) -> None:
        """Add what this server saw of these rollouts to their rows. If that fails, it is tried again."""
        ids = {each.rollout.id for each in running}
        taken = {rollout: counts for rollout, counts in self.evidence.taken().items() if rollout in ids}
        if not taken:
            return
        try:
            self.rows.add(taken)
        except ServiceError:
            self.evidence.give_back(taken)
            raise
        for counts in taken.values():
            self._count(counts)

    def _count(self, counts: Counts) -> None:
        sides: tuple[Side, ...] = ("stable", "canary")
        for side in sides:
            tally, requests = counts.side(side), self.metrics.rollout_requests
            requests.labels(side, "failed").inc(tally.failed)
            requests.labels(side, "answered").inc(tally.requests - tally.failed)
        compared = counts.compared
        outcomes = {"computed": compared.images, "failed": compared.failed.total(), "shed": compared.shed}
        for outcome, images in outcomes.items():
            self.metrics.shadow_images.labels(outcome).inc(images)

    def _store_the_last(self) -> None:
        try:
            self._store(self.running)
        except ServiceError as error:
            log.warning("the last evidence of rollouts is lost", reason=str(error))

    def _judge(self, running: Running) -> None:
        shown = self.shown.of(running.rollout)
        if shown.findings and self.roll_back(running, shown):
            log.error(
                "rollout taken back",
                adapter=running.name,
                alias=running.alias,
                rollout=running.rollout.id,
                findings=[asdict(finding) for finding in shown.findings],
            )

    def roll_back(self, running: Running, shown: Shown) -> bool:
        """Make the stable version the alias's only one. False if the rollout has ended or changed its versions."""
        with self.database.write() as connection:
            try:
                current = stored_rollout(alias_row(connection, running.name, running.alias).rollout)
            except NotFound:
                return False
            if current is None or current.id != running.rollout.id:
                return False
            by = By(evidence=shown.evidence())
            self._aliases.point(connection, running.name, running.alias, Target(current.stable), by)
        for rule in {finding.rule for finding in shown.findings}:
            self.metrics.rollbacks.labels(rule).inc()
        self.tell(running, shown.findings)
        return True

    def _tidy(self, running: Sequence[Running]) -> None:
        now = time.monotonic()
        if now - self._tidied_at < TIDY_S:
            return
        self._tidied_at = now
        self.rows.forget([each.rollout.id for each in running])

    def _forget(self, all_but: Sequence[str]) -> None:
        """Drop from memory what is known of rollouts that have ended."""
        self.evidence.forget(all_but)
        self.shown.forget(all_but)
