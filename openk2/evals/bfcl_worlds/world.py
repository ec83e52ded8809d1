"""What the systems share: a state that is compared, and how a call is refused.

In: nothing. Out: a protocol and an exception.
Must not know: any of the systems.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

Json = dict[str, Any]
Config = Mapping[str, Any]


class Refused(Exception):
    """A call is not possible; the message says why."""


class World(Protocol):
    """One system."""

    def state(self) -> Any:
        """Return what scoring compares: two systems with equal states are the same."""
        ...
