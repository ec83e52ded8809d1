"""Reasoning that a client keeps for us, closed so that we know it again as ours.

In: the text of a finished thought and a function that signs. Out: an opaque string, and back.
Must not know: which dialect carries it, or where the key comes from.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable

from openk2.server.dialects.body import In

Sign = Callable[[bytes], bytes]
"""A keyed hash such as HMAC-SHA-256 with the server's secret."""

# A signature made for another purpose with the same key must not open a thought.
_PURPOSE = b"openk2 sealed reasoning\0"


class _Sealed(In):
    reasoning: str
    mac: str


def seal(reasoning: str, sign: Sign) -> str:
    """Return `reasoning` as base64 of JSON that says who wrote it; it is signed, not hidden."""
    sealed = {"reasoning": reasoning, "mac": _mac(reasoning, sign)}
    text = json.dumps(sealed, ensure_ascii=False)
    # A lone surrogate is no Unicode text: it must not end an answer, and does not come back.
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def unseal(text: str, sign: Sign) -> str | None:
    """Return what `seal` closed, or None if `text` is not from this server."""
    try:
        sealed = _Sealed.model_validate_json(base64.b64decode(text, validate=True))
    except ValueError:  # neither base64 nor JSON of this shape
        return None
    genuine = hmac.compare_digest(sealed.mac.encode(), _mac(sealed.reasoning, sign).encode())
    return sealed.reasoning if genuine else None


def _mac(reasoning: str, sign: Sign) -> str:
    return base64.b64encode(sign(_PURPOSE + json.dumps(reasoning).encode())).decode()
