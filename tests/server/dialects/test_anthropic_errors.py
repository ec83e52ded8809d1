"""Answers in the Messages dialect: the order of events, and what Anthropic's SDK makes of them."""

from __future__ import annotations

import pytest

from openk2.server.dialects.anthropic_events import (
    encode_error,
    error_status,
)
from openk2.server.errors import ApiError, Overflow


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_every_status_has_its_type(status, kind):
    error = ApiError(status, "No.")
    assert error_status(error) == status
    assert encode_error(error, "req_1") == {
        "type": "error",
        "error": {"type": kind, "message": "No."},
        "request_id": "req_1",
    }


def test_a_full_queue_is_an_overload_and_not_a_limit():
    error = ApiError(429, "Too many requests wait.", code="engine_overloaded")
    assert error_status(error) == 529
    assert encode_error(error, "req_1")["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize(
    ("param", "overflow", "words"),
    [
        ("messages", Overflow(9000, 50, 4096), "prompt is too long: 9000 tokens > 4096 maximum"),
        ("messages", None, "prompt is too long"),
        (
            "max_tokens",
            Overflow(4000, 500, 4096),
            "input length and `max_tokens` exceed context limit: 4000 + 500 > 4096",
        ),
        ("max_tokens", None, "input length and `max_tokens` exceed context limit"),
    ],
)
def test_agents_are_told_in_their_words_to_shorten_the_conversation(param, overflow, words):
    code = "context_length_exceeded"
    error = ApiError(400, f"{param}: too much.", param=param, code=code, overflow=overflow)
    told = encode_error(error, "req_1")["error"]["message"]
    assert told == f"{words}; {param}: too much."


def test_the_message_names_the_field():
    error = ApiError(404, "No such model.", param="model", code="model_not_found")
    assert encode_error(error, "req_1")["error"]["message"] == "model: No such model."
