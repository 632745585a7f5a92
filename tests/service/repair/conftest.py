from __future__ import annotations

from tests.service.states import kept, template

__all__ = ["kept", "template"]
