"""How long a worker may be silent before another one may claim its job: server and worker share the value."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

LEASE_S = 30.0
LeaseSeconds = Annotated[float, Field(ge=0.5, le=3600)]
