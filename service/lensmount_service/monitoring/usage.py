"""How each adapter was used since the server started: requests, images, decisions, and how long they took."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from lensmount_adapters.trust.judge import Judgement
from lensmount_service.metrics import Metrics
from lensmount_service.rollouts.evidence import Sample

MAX_ADAPTERS = 4096  # of all tenants; the one that was asked least recently is forgotten first


@dataclass(slots=True)
class Use:
    """The counts of one adapter, as one tenant asks it. `seconds` are those of the `answered` requests together."""

    requests: dict[int, int] = field(default_factory=dict)  # by status
    images: int = 0
    decisions: dict[str, int] = field(default_factory=dict)
    answered: int = 0
    seconds: float = 0.0
    last_used: float | None = None  # in seconds since the epoch

    @property
    def mean_s(self) -> float | None:
        return self.seconds / self.answered if self.answered else None


class Usage:
    """`usage.of("default", "malaria")`; safe from any thread."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.since = clock()
        self._uses: OrderedDict[tuple[str, str], Use] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, tenant: str, adapter: str) -> Use:
        """The counts to add to, of an adapter that is there, by the name that the tenant asks for."""
        with self._lock:
            use = self._uses.setdefault((tenant, adapter), Use())
            self._uses.move_to_end((tenant, adapter))
            if len(self._uses) > MAX_ADAPTERS:
                self._uses.popitem(last=False)
        return use

    def shown(self, tenant: str, adapter: str) -> Use:
        """The counts so far; zeros if nobody asked."""
        return self._uses.get((tenant, adapter)) or Use()


@dataclass(frozen=True, slots=True)
class Counted:
    """Where a request for an adapter is counted: in the metrics by its `label`, in its `use`, and for a rollout."""

    metrics: Metrics
    label: str
    use: Use = field(default_factory=Use)
    clock: Callable[[], float] = time.time
    sample: Sample | None = None

    def request(self, status: int, images: int = 0, seconds: float = 0.0, code: str | None = None) -> None:
        """Count a request. `images` have an answer, and `seconds` is how long all of the request took.

        `code` is that of its failure.
        """
        if self.sample is not None:
            self.sample.request(status, images, seconds, code)
        self.metrics.requests.labels(self.label, str(status)).inc()
        use = self.use
        use.requests[status] = use.requests.get(status, 0) + 1
        use.images += images
        use.last_used = self.clock()
        if status < 400:
            use.answered += 1
            use.seconds += seconds

    def image(self, label: str, judgement: Judgement | None, promised: float | None, images: int) -> None:
        """Count the answer `label` to one of the `images` of a request, and what that is worth."""
        decision = None if judgement is None else judgement.decision
        if self.sample is not None:
            self.sample.image(label, decision, 1 / images)
        if judgement is not None and decision is not None:
            self.metrics.judged(self.label, decision, judgement.confidence, promised)
            self.use.decisions[decision] = self.use.decisions.get(decision, 0) + 1
