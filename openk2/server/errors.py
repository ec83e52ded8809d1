"""What the server can refuse, before any dialect wraps it.

In: nothing. Out: `ApiError`, which every dialect turns into its own envelope.
Must not know: which dialect the client speaks.
"""

from __future__ import annotations

from dataclasses import dataclass

# What clients call their fields is quoted, and a sentence is one line.
_CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(32), 127)}


@dataclass(frozen=True, slots=True)
class Overflow:
    """Why a request does not fit the context window."""

    prompt_tokens: int
    max_tokens: int | None
    """None: no answer of a certain length was asked for."""
    window: int


class ApiError(Exception):
    """A request that gets an error instead of an answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
        overflow: Overflow | None = None,
    ) -> None:
        """Remember what to tell the client.

        Args:
            status: HTTP status.
            message: One sentence: what happened, where, what to do next.
            param: The request field that is at fault, as `messages[1].role`.
            code: A short word that programs can test for.
            headers: Extra response headers, such as `Retry-After`.
            overflow: With the code `context_length_exceeded`, the numbers of the message.
        """
        message = message.translate(_CONTROLS)
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers or {}
        self.overflow = overflow
