"""The text of docs/reference/http-api.md: endpoints, headers, errors, and every field of a body.

In: the server's routes, shapes of bodies, errors, and `http_fields.toml`. Out: Markdown.
Must not know: what becomes of a field; the TOML file says it, and a test proves it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from pydantic import BaseModel

from docs.reference.schema_words import type_of, variants
from openk2.server.app import SESSION_HEADERS, create_app
from openk2.server.dialects import (
    anthropic,
    anthropic_events,
    anthropic_turns,
    openai_body,
    openai_events,
    responses_input,
)
from openk2.server.errors import ApiError
from openk2.server.headers import UNLIMITED, common_headers
from openk2.server.openapi import document

Json = dict[str, Any]
Rows = dict[str, "Row"]

FIELDS = Path(__file__).with_name("http_fields.toml")
STATUSES = ("honoured", "refused", "ignored")


@dataclass(frozen=True)
class Row:
    """What becomes of one field."""

    status: str
    remark: str
    ours: bool
    """No vendor of the dialect has it."""


@dataclass(frozen=True)
class Dialect:
    """One way to ask for an answer."""

    name: str
    """Its table in `http_fields.toml`."""
    title: str
    shape: str
    """Its body's schema in the OpenAPI document."""
    page: str
    """The page that describes its behaviour."""
    inner: Mapping[str, type[BaseModel]]
    """Shapes that are read one by one, which the body's schema does not have."""


DIALECTS = (
    Dialect("chat", "Chat Completions", "Chat", "http.md", {}),
    Dialect(
        "responses",
        "Responses",
        "Response",
        "http-responses.md",
        {
            "tools[]": openai_body.Function,
            "input[message]": responses_input._Message,
            "input[function_call]": responses_input._Call,
            "input[function_call_output]": responses_input._Output,
            "input[custom_tool_call]": responses_input._CustomCall,
            "input[custom_tool_call_output]": responses_input._Output,
            "input[reasoning]": responses_input._Reasoning,
        },
    ),
    Dialect(
        "messages",
        "Messages",
        "Message",
        "http-messages.md",
        {
            "tools[]": anthropic._Tool,
            "messages[].content[text]": anthropic_turns.Text,
            "messages[].content[tool_use]": anthropic_turns.ToolUse,
            "messages[].content[tool_result]": anthropic_turns.ToolResult,
            "messages[].content[thinking]": anthropic_turns.Thinking,
            "messages[].content[document]": anthropic_turns.Document,
        },
    ),
    Dialect("completions", "Completions", "Completion", "http-completions.md", {}),
)

ENDPOINTS = {
    "/v1/chat/completions": (
        "Chat Completions",
        "one answer, whole or streamed; a body of the Responses dialect is answered in chat chunks",
    ),
    "/v1/responses": ("Responses", "one answer, whole or streamed"),
    "/v1/messages": ("Messages", "one answer, whole or streamed"),
    "/v1/messages/count_tokens": (
        "Messages",
        '`{"input_tokens": N}` for the same body; needs no `max_tokens`',
    ),
    "/v1/completions": ("Completions", "prompts continued, whole or streamed"),
    "/v1/tokenizers/estimate-token-count": (
        "Chat Completions",
        '`{"data": {"total_tokens": N}}`: what the prompt of this body has',
    ),
    "/v1/models": ("all", "every model, each with the keys that either vendor's clients read"),
    "/v1/models/{model_id}": ("all", "one of them"),
    "/openapi.json": ("", "this interface as an OpenAPI 3.1 document"),
    "/healthz": ("", '`{"status": "ok"}` once the model is warm, 503 once the engine has stopped'),
    "/": ("", "name and version; coding agents look here first"),
}
"""What a path answers; of one that is not here, what its handler's docstring says."""

INTRO = """# HTTP API: endpoints and fields

What `openk2 serve` answers, and what becomes of every field that a client can send: it is
**honoured**, **refused** with a 400 that names it, or **ignored**, because the answer is the same
without it. A test sends each of them and checks what stands here. How conversations, streams, ids,
thinking and names of models work is told for [Chat Completions](http.md),
[Responses](http-responses.md), [Messages](http-messages.md) and [Completions](http-completions.md).

Fields that stand on no list are ignored, and so are unknown betas, versions and headers. A field
that is `null` counts as left out. A path is written as errors name it, without numbers:
`messages[].role` is the `role` of a message, `content[tool_use].id` the `id` of those entries of
`content` whose `type` is `tool_use`. A + marks fields that no vendor of the dialect has.
"""


# Endpoints --------------------------------------------------------------------------------------


def described() -> Json:
    """Return the OpenAPI document; routes are made without looking at the models behind them."""
    return document(create_app(cast(Any, SimpleNamespace(models=()))).routes)


def _endpoints(paths: Mapping[str, Json]) -> Iterator[str]:
    yield "## Endpoints\n"
    yield "There is no key check: any `Authorization` or `x-api-key` header, or none, will do.\n"
    yield table_row("endpoint", "dialect", "answers")
    yield table_row("---", "---", "---")
    order = list(ENDPOINTS)
    shown = [path for path in paths if (path.removeprefix("/anthropic") or "/") not in paths]
    shown += [path for path in paths if not path.startswith("/anthropic")]
    for path in sorted(shown, key=lambda path: order.index(path) if path in order else len(order)):
        twin = f"/anthropic{path}".removesuffix("/")
        methods = sorted(method.upper() for method in paths[path])
        named = [f"`{m} {p}`" for p in (path, twin) if p in paths for m in methods]
        summary = next(iter(paths[path].values()))["summary"]
        dialect, answers = ENDPOINTS.get(path, ("", summary))
        yield table_row(", ".join(named), dialect, answers)


# Headers ----------------------------------------------------------------------------------------


def _headers() -> Iterator[str]:
    rows = {
        "x-request-id": "names the request; one of 1 to 128 printable characters is taken over",
        **{
            name.decode(): "names the session, as `prompt_cache_key` does, which wins"
            for name in SESSION_HEADERS
        },
        "anthropic-version": "any; on paths that serve both vendors, errors are Anthropic's",
        "anthropic-beta": "ignored",
    }
    yield "\n## Headers of a request\n"
    yield table_row("header", "what becomes of it")
    yield table_row("---", "---")
    yield from (table_row(f"`{name}`", meaning) for name, meaning in rows.items())
    yield "\n## Headers of an answer\n"
    yield table_row("header", "meaning")
    yield table_row("---", "---")
    meanings = {name: _meaning(name) for name in common_headers("id")}
    for meaning in dict.fromkeys(meanings.values()):
        yield table_row(", ".join(f"`{n}`" for n in meanings if meanings[n] == meaning), meaning)
    yield table_row(
        "`x-openk2-warning`", "what of the request was simplified or left out, in one line"
    )
    yield table_row("`Retry-After`", "with 429 and 529: seconds to wait; with an upstream, its own")
    yield table_row("`Allow`", "with 405: the methods of this path")


def _meaning(name: str) -> str:
    if "ratelimit" not in name:
        return "the request's id"
    return "now" if "reset" in name else f"{UNLIMITED}: this server has no limits"


# Errors -----------------------------------------------------------------------------------------

FAILURES = (
    (400, None, "the body is no JSON, or a field is wrong; it is named"),
    (400, "unsupported_value", "the field is known, but what it asks for cannot be had here"),
    (400, "context_length_exceeded", "prompt and answer do not fit the context window"),
    (400, "max_tokens_too_small", "the shortest call or JSON answer needs more tokens"),
    (404, "unknown_url", "no such path"),
    (404, "model_not_found", "no such model"),
    (405, "method_not_allowed", "the path has other methods"),
    (413, "request_too_large", "the body is far larger than the context window can hold"),
    (429, "engine_overloaded", "too many requests wait already"),
    (429, "rate_limit_exceeded", "the upstream's limit is reached"),
    (500, None, "the server failed; its log says why"),
    (501, "not_implemented", "the upstream cannot count tokens"),
    (502, "upstream_error", "the upstream failed, or broke its answer off"),
    (502, "upstream_unreachable", "the upstream cannot be reached"),
    (502, "upstream_no_such_address", "the upstream's address is wrong"),
    (502, "upstream_key_refused", "the upstream does not accept the server's key"),
    (502, "invalid_tool_call", "the upstream's model wrote a call twice that is none"),
    (503, None, "the server is shutting down, or its engine has stopped"),
    (504, "upstream_timeout", "the upstream is silent"),
)
"""Status and code of every error, and when it comes."""


def _errors() -> Iterator[str]:
    example = ApiError(400, "messages[1].role: must be 'user' or 'tool'.", param="messages[1].role")
    yield "\n## Errors\n"
    yield "OpenAI's dialects:\n"
    yield _json(openai_events.encode_error(example))
    yield "The Messages dialect, whose message names the field:\n"
    yield _json(anthropic_events.encode_error(example, "req_5f0c"))
    yield (
        "In a stream that has begun, the same comes as a last `data:` frame, as "
        "`response.failed`, or as the event `error`.\n"
    )
    yield table_row("status", "`code`", "`type`", "in Messages", "when")
    yield table_row(*["---"] * 5)
    for status, code, when in FAILURES:
        error = ApiError(status, "", code=code)
        ours = openai_events.encode_error(error)["error"]
        theirs = anthropic_events.encode_error(error, "")["error"]["type"]
        told = anthropic_events.error_status(error)
        shown = f"`{code}`" if code else ""
        yield table_row(f"{status}", shown, f"`{ours['type']}`", f"{told} `{theirs}`", when)


def _json(value: Json) -> str:
    return f"```json\n{json.dumps(value, indent=2)}\n```\n"


# Fields -----------------------------------------------------------------------------------------


def field_rows(name: str) -> Rows:
    """Return the fields of a dialect as `http_fields.toml` has them, with what becomes of each."""
    told = tomllib.loads(FIELDS.read_text(encoding="utf-8"))[name]
    ours = set(told["ours"])
    return {
        path: Row(status, remark, path in ours)
        for status in STATUSES
        for path, remark in told[status].items()
    }


def _fields(dialect: Dialect, schemas: Json) -> Iterator[str]:
    types = tomllib.loads(FIELDS.read_text(encoding="utf-8"))[dialect.name]["types"]
    rows = field_rows(dialect.name)
    order = list(dict.fromkeys(_top(path) for path in rows))
    yield f"\n## {dialect.title}\n"
    yield f"How it behaves: [{dialect.page}]({dialect.page}).\n"
    yield table_row("field", "type", "", "remark")
    yield table_row(*["---"] * 4)
    # What is inside a field follows it; the rest is in the order of the file.
    for path, row in sorted(rows.items(), key=lambda item: order.index(_top(item[0]))):
        shown = types.get(path) or type_of(find_schema(dialect, schemas, path), schemas)
        shown = "object" if path.endswith("]") else shown
        mark = " +" if row.ours else ""
        yield table_row(f"`{path}`{mark}", shown, row.status, row.remark)


def _top(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def find_schema(dialect: Dialect, schemas: Json, path: str) -> Json | None:
    """Return the schema of the field at `path`; None: no shape has it, so it may hold anything."""
    for prefix, model in dialect.inner.items():
        if path.startswith(f"{prefix}."):
            own = model.model_json_schema()
            found = _step(own, path.removeprefix(f"{prefix}."), own)
            if found is not None:
                return found
    found = {"$ref": f"#/components/schemas/{dialect.shape}"}
    for step in path.split("."):
        if found is None or "[" in step.removesuffix("[]"):
            return None
        found = _step(found, step.removesuffix("[]"), schemas)
    return found


def _step(schema: Json, name: str, schemas: Json) -> Json | None:
    for variant in variants(schema, schemas):
        variant = variants(variant["items"], schemas)[0] if "items" in variant else variant
        if name in variant.get("properties", {}):
            required = name in variant.get("required", ())
            return variant["properties"][name] | ({"required": True} if required else {})
    return None


# The page ---------------------------------------------------------------------------------------


def table_row(*cells: str) -> str:
    """Join cells into a table row."""
    escaped = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def http_page(note: str) -> str:
    """Describe every endpoint, header, error and field."""
    told = described()
    lines: Sequence[str] = [
        note,
        INTRO,
        *_endpoints(told["paths"]),
        *(line for dialect in DIALECTS for line in _fields(dialect, told["components"]["schemas"])),
        *_headers(),
        *_errors(),
    ]
    return "\n".join(lines).rstrip() + "\n"
