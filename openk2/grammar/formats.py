"""The formats of JSON Schema that are enforced, as patterns.

In: a format's name. Out: a pattern, a bit narrower than the RFC's grammar (3339, 4122,
5321, 2673).
Must not know: schemas, automata.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_LEAP = r"(?:[1-9]\d(?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)"
_DATE = (
    r"(?:[1-9]\d{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))|" + _LEAP + "-02-29)"
)
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_ATOM = r"[A-Za-z0-9_+-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "date": f"^{_DATE}$",
        "time": f"^{_TIME}$",
        "date-time": f"^{_DATE}T{_TIME}$",
        "uuid": r"^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
        "email": rf"^{_ATOM}(?:\.{_ATOM})?@{_LABEL}(?:\.{_LABEL}){{1,3}}$",
        "ipv4": rf"^{_BYTE}(?:\.{_BYTE}){{3}}$",
    }
)
"""Patterns by the name of the format; all other formats are annotations."""
