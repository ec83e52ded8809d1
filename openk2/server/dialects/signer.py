"""Signatures by which this server knows its own thinking again.

In: a keyed hash and a text. Out: a signature, or whether one is ours.
Must not know: which dialect carries it, or where the key comes from.
"""

from __future__ import annotations

import base64
import hmac

from openk2.server.dialects.sealed import Sign

# A signature made for another purpose with the same key must not pass for one of thinking.
_PURPOSE = b"openk2 thinking block\0"


class Signer:
    """Signs texts that are sent in the open, beside their signature."""

    def __init__(self, sign: Sign) -> None:
        """Sign with a keyed hash; whoever has its key can write what passes for our thinking."""
        self._sign = sign

    def sign(self, text: str) -> str:
        """Return the signature of `text` in base64."""
        # surrogatepass: a lone surrogate is no Unicode text, but must not end an answer.
        message = _PURPOSE + text.encode("utf-8", "surrogatepass")
        return base64.b64encode(self._sign(message)).decode()

    def verify(self, text: str, signature: str) -> bool:
        """Tell whether `signature` is what `sign` returned for `text`."""
        expected = self.sign(text).encode()
        return hmac.compare_digest(expected, signature.encode("utf-8", "surrogatepass"))
