"""Counting tokens where they will be read: each kind of server has its own endpoint for it.

In: `ChatRequest`s and texts. Out: counts.
Must not know: answers, events.
"""

from __future__ import annotations

from typing import Any, cast

from openk2.server.errors import ApiError
from openk2.server.request import ChatRequest
from openk2.server.upstream.errors import NO_SUCH_ADDRESS, unreadable
from openk2.server.upstream.http import UpstreamHttp
from openk2.server.upstream.kinds import Kind
from openk2.server.upstream.request import encode_messages, encode_tools

Json = dict[str, Any]


async def count_prompt(
    http: UpstreamHttp, kind: Kind, model: str | None, request: ChatRequest
) -> int:
    """Count the tokens of a prompt.

    Raises:
        ApiError: 501 if the server has no way to count; its own refusal if it has one.
    """
    body: Json = {"messages": encode_messages(request.messages)}
    if model is not None:
        body["model"] = model
    if request.tools:
        body["tools"] = encode_tools(request.tools, kind)
    match kind.counter:
        case "estimate":
            url = f"{http.address.base}/tokenizers/estimate-token-count"
            return _number(await _ask(http, url, body), "data", "total_tokens")
        case "tokenize":
            return _number(await _ask(http, f"{http.address.root}/tokenize", body), "count")
        case "template":
            prompt = await _ask(http, f"{http.address.root}/apply-template", body)
            return await _count_llama(http, cast("str", prompt.get("prompt", "")))
        case None:
            raise _cannot()


async def count_text(http: UpstreamHttp, kind: Kind, model: str | None, text: str) -> int | None:
    """Count the tokens of a text, None if the server cannot.

    Raises:
        ApiError: It could, but did not.
    """
    if kind.counter == "tokenize":
        body: Json = {"model": model, "prompt": text, "add_special_tokens": False}
        return _number(await _ask(http, f"{http.address.root}/tokenize", body), "count")
    return await _count_llama(http, text) if kind.counter == "template" else None


async def _count_llama(http: UpstreamHttp, text: str) -> int:
    body = {"content": text, "parse_special": True}
    tokens = (await _ask(http, f"{http.address.root}/tokenize", body)).get("tokens")
    if not isinstance(tokens, list):
        raise unreadable("no list of tokens")
    return len(cast("list[object]", tokens))


async def _ask(http: UpstreamHttp, url: str, body: Json) -> Json:
    try:
        answer = await http.document(url, body)
    except ApiError as error:
        # It has no such endpoint, or an older one that takes no conversation.
        absent = error.code == NO_SUCH_ADDRESS or error.status == 400
        raise (_cannot() if absent else error) from None
    return cast("Json", answer) if isinstance(answer, dict) else {}


def _number(answer: Json, *path: str) -> int:
    value: Any = answer
    for step in path:
        value = cast("Json", value).get(step) if isinstance(value, dict) else None
    if not isinstance(value, int) or value < 0:
        raise unreadable("no count of tokens")
    return value


def _cannot() -> ApiError:
    return ApiError(
        501,
        "The server behind this one cannot count tokens without writing an answer; send the "
        "request itself and read its usage.",
        code="not_implemented",
    )
