"""How each adapter was used since the server started: requests, images, decisions, and how long they took."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from lensmount_service.metrics import Metrics

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
    """Where the requests of one adapter are counted: in the metrics by its `label`, and in its `use`."""

    metrics: Metrics
    label: str
    use: Use = field(default_factory=Use)
    clock: Callable[[], float] = time.time

    def request(self, status: int, images: int = 0, seconds: float = 0.0) -> None:
        """Count a request. `images` have an answer, and `seconds` is how long all of the request took."""
        self.metrics.requests.labels(self.label, str(status)).inc()
        use = self.use
        use.requests[status] = use.requests.get(status, 0) + 1
        use.images += images
        use.last_used = self.clock()
        if status < 400:
            use.answered += 1
            use.seconds += seconds

    def judged(self, decision: str, top_score: float, promised: float | None) -> None:
        """Count a decision, as `Metrics.judged` does."""
        self.metrics.judged(self.label, decision, top_score, promised)
        self.use.decisions[decision] = self.use.decisions.get(decision, 0) + 1
