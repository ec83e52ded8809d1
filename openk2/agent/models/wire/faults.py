"""What an endpoint says when it does not answer, as the few kinds of fault that a loop tells apart.

In: statuses, headers, bodies, error objects. Out: `ModelError`s.
Must not know: sockets, requests, what is done about a fault.

The endpoint's own words are quoted, its key never.
"""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from openk2.agent.model import ModelError, ModelFault

Json = dict[str, Any]

_LONGEST = 600
"""Characters of the endpoint's words that are quoted."""

_TOO_LONG = re.compile(
    r"context[ _]?(length|window|size)|maximum context|token limit|token length too long"
    r"|too many (input )?tokens|prompt is too long|input is too long|exceeds? the (available )?"
    r"(context|window)|reduce the length",
    re.IGNORECASE,
)
"""How OpenAI, Kimi, Anthropic, vLLM, SGLang and llama.cpp say that a conversation is too long."""

_NO_CREDIT = re.compile(
    r"insufficient_quota|exceeded_current_quota|insufficient (balance|credit)|credit balance",
    re.IGNORECASE,
)
"""A 429 that no waiting mends."""

_BUSY_WORDS = ("rate_limit", "too_many_requests", "engine_overloaded")
_ADVICE: dict[ModelFault, str] = {
    "busy": "try again later",
    "server": "try again; if it stays so, look into the server's log",
    "network": "check the address, and that the server runs",
    "broken_stream": "try again",
    "too_long": "make the conversation shorter",
    "refused": "the request has to change before it can be answered",
}
_WHY_REFUSED = {
    401: "check the API key",
    402: "the account has to be topped up",
    403: "this key may not use this model or address",
    404: "check the model's name and the base URL",
    405: "check that the base URL ends as the vendor's documentation says",
}


def fault_of_status(
    endpoint: str, status: int, headers: Mapping[str, str], body: bytes, key: str | None
) -> ModelError:
    """Translate a response that is no answer.

    Args:
        endpoint: Its name for people.
        status: HTTP status, not 200.
        headers: The response's.
        body: As much of it as was read.
        key: Taken out of what is quoted.
    """
    error = _error_object(body)
    said = quoted(error, key)
    told = f"{endpoint} answered HTTP {status}" + (f": {said}" if said else "")
    fault = _kind(status, said, _words(error))
    if fault == "refused" and 300 <= status < 400:
        advice = "it sends requests elsewhere; give the final address"
    elif fault == "refused":
        advice = _WHY_REFUSED.get(status, _ADVICE["refused"])
    else:
        advice = _ADVICE[fault]
    if headers.get("x-should-retry") == "false" and fault in ("busy", "server"):
        fault, advice = "refused", "it says that trying again does not help"
    return ModelError(_sentence(told, advice), fault, retry_after=read_retry_after(headers))


def fault_in_stream(endpoint: str, error: object, key: str | None) -> ModelError:
    """Translate an error object that came in the place of a piece of the answer."""
    fields = cast("Json", error) if isinstance(error, dict) else {"message": error}
    said, words = quoted(fields, key), _words(fields)
    status = fields.get("code", fields.get("status"))
    number = status if isinstance(status, int) and 400 <= status < 600 else 500
    if any(word in words for word in _BUSY_WORDS):
        number = 429
    elif "invalid_request" in words:
        number = 400
    fault = _kind(number, said, words)
    told = f"{endpoint} broke its answer off" + (f": {said}" if said else "")
    return ModelError(_sentence(told, _ADVICE[fault]), fault)


def broken_off(
    endpoint: str, why: str = "the connection ended before the answer did"
) -> ModelError:
    """Say that only a part of the answer came."""
    return ModelError(_sentence(f"{endpoint}: {why}", "try again"), "broken_stream")


def unreadable(endpoint: str, what: str) -> ModelError:
    """Say that what came is no answer."""
    return ModelError(
        _sentence(f"{endpoint} sent {what}", "check that the base URL speaks this API"),
        "broken_stream",
    )


def endless(endpoint: str, limit: int) -> ModelError:
    """Say that more came than an answer can be; another attempt would bring as much."""
    told = f"{endpoint} sent more than {limit // 2**20} MiB for one answer"
    return ModelError(_sentence(told, "give it a limit of tokens"), "refused")


def unreachable(endpoint: str, why: str) -> ModelError:
    """Say that there is no connection."""
    return ModelError(
        _sentence(f"{endpoint} cannot be reached ({why})", _ADVICE["network"]), "network"
    )


def silent(endpoint: str, seconds: float, *, whole: bool = False) -> ModelError:
    """Say that it took too long: without a byte, or as a whole."""
    what = "did not end its answer in" if whole else "said nothing for"
    return ModelError(_sentence(f"{endpoint} {what} {seconds:g} seconds", "try again"), "network")


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds to wait, from `retry-after-ms`, or `retry-after` in either form.

    A date is compared with the response's own, as clocks of two machines may differ.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    until, sent = _date(value), _date(headers.get("date", ""))
    if until is None:
        return None
    return max(0.0, (until - (sent or datetime.now(UTC))).total_seconds())


def quoted(error: Mapping[str, Any], key: str | None) -> str:
    """Return what an error object says, on one line, without the key."""
    said = error.get("message", error.get("detail", ""))
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    if key:
        text = text.replace(key, "***")
    # Escape sequences of a stranger's have no business in a terminal; nor has a whole page.
    text = "".join(c if c.isprintable() else " " for c in text[: 20 * _LONGEST])
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _kind(status: int, said: str, words: str) -> ModelFault:
    if "context_length" in words or status == 413:
        return "too_long"
    if status == 429:
        return "refused" if _NO_CREDIT.search(f"{words} {said}") else "busy"
    if status in (408, 409, 425) or status >= 500:
        return "server"
    return "too_long" if _TOO_LONG.search(said) else "refused"


def _words(error: Mapping[str, Any]) -> str:
    """Return the words that programs test for."""
    return " ".join(str(error.get(name, "")) for name in ("type", "code"))


def _sentence(told: str, advice: str) -> str:
    return f"{told.rstrip('.')}; {advice}"


def _number(value: str | None) -> float | None:
    return float(value) if value is not None and re.fullmatch(r"\d{1,9}(\.\d+)?", value) else None


def _date(value: str) -> datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _error_object(body: bytes) -> Json:
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        # A proxy's page, perhaps: its text, without the marks, says more than nothing.
        text = re.sub(r"<[^>]*>", " ", body.decode("utf-8", "replace"))
        return {"message": text}
    if not isinstance(value, dict):
        return {"message": value}
    fields = cast("Json", value)
    inner = fields.get("error")
    if isinstance(inner, dict):
        return cast("Json", inner)
    return fields if inner is None else {"message": inner}
