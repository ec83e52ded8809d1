"""The OpenAPI document of the server, made from its routes and the shapes of its bodies.

In: routes, the dialects' body shapes. Out: a dictionary ready for `json.dumps`.
Must not know: requests, backends.

What a shape's own schema cannot say, because clients may write a field in several ways, is in
`_WIDER`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import BaseRoute

from openk2 import __version__
from openk2.server.dialects import anthropic, completions, openai_body, responses

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_PARTS: Json = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"type": {"const": "text"}, "text": _TEXT},
        "required": ["type", "text"],
    },
}
_TEXT_OR_PARTS: Json = {"anyOf": [_TEXT, _PARTS]}
_TEXTS: Json = {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": 5}
_STOP: Json = {"anyOf": [{"type": "string", "minLength": 1}, _TEXTS]}
_BIASES: Json = {
    "type": "object",
    "patternProperties": {
        "^(0|[1-9][0-9]{0,8})$": {"type": "number", "minimum": -100, "maximum": 100}
    },
    "additionalProperties": False,
}
_PROMPT: Json = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "minItems": 1,
            "maxItems": 128,
        },
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
    ]
}
_ITEM: Json = {
    "type": "object",
    "properties": {
        "type": {"const": "message"},
        "role": {"enum": ["user", "assistant", "system", "developer"]},
        "content": _TEXT,
    },
    "required": ["role", "content"],
}
_INPUT: Json = {"anyOf": [_TEXT, {"type": "array", "items": _ITEM, "minItems": 1}]}
_FUNCTION: Json = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "name": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
        "description": _TEXT,
        "parameters": {"type": "object", "properties": {"type": {"const": "object"}}},
    },
    "required": ["type", "name"],
}
_CLAUDE_TOOL: Json = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,128}$"},
        "description": _TEXT,
        "input_schema": {"type": "object", "properties": {"type": {"const": "object"}}},
    },
    "required": ["name", "input_schema"],
}
_CHOICES: Json = {"enum": ["auto", "none", "required"]}

_WIDER: Mapping[str, Json] = {
    "Chat.Turn": {"content": _TEXT_OR_PARTS},
    "Chat": {"stop": _STOP, "logit_bias": _BIASES, "tool_choice": _CHOICES},
    "Completion": {"stop": _STOP, "logit_bias": _BIASES, "prompt": _PROMPT},
    "Response": {
        "input": _INPUT,
        "tools": {"type": "array", "items": _FUNCTION},
        "tool_choice": _CHOICES,
    },
    "Message.Turn": {"content": _TEXT_OR_PARTS},
    "Message": {"system": _TEXT_OR_PARTS, "tools": {"type": "array", "items": _CLAUDE_TOOL}},
}

_REQUIRED: Mapping[str, list[str]] = {
    "Response": ["input"],
    "Completion": ["prompt"],
    "Message": ["messages", "max_tokens"],
}

_SHAPES: Mapping[str, type[BaseModel]] = {
    "Chat": openai_body.Body,
    "Response": responses.Body,
    "Completion": completions.Body,
    "Message": anthropic.Body,
}

_BODY_OF: Mapping[str, str] = {
    "/v1/chat/completions": "Chat",
    "/v1/tokenizers/estimate-token-count": "Chat",
    "/v1/responses": "Response",
    "/v1/completions": "Completion",
    "/v1/messages": "Message",
    "/v1/messages/count_tokens": "Message",
}
"""Which shape a path takes; under `/anthropic` it is the same."""

_ERROR: Json = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}
_CLAUDE_ERROR: Json = {
    "type": "object",
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "properties": {"type": _TEXT, "message": _TEXT},
            "required": ["type", "message"],
        },
        "request_id": _TEXT,
    },
    "required": ["type", "error", "request_id"],
}


def document(routes: Iterable[BaseRoute]) -> Json:
    """Describe every route."""
    paths: dict[str, Json] = {}
    for route in routes:
        if isinstance(route, APIRoute):
            entry = paths.setdefault(route.path.replace(":path", ""), {})
            for method in sorted(route.methods or ()):
                entry[method.lower()] = _operation(route, method)
    return {
        "openapi": "3.1.0",
        "info": {"title": "openk2", "version": __version__},
        "paths": paths,
        "components": {"schemas": _schemas()},
    }


def _operation(route: APIRoute, method: str) -> Json:
    path = route.path.removeprefix("/anthropic")
    shape = _BODY_OF.get(path)
    answers = shape is not None and "count" not in path
    content: Json = {"application/json": {"schema": {"type": "object"}}}
    if answers:
        content["text/event-stream"] = {"schema": _TEXT}
    success: Json = {"description": "The answer; a stream if the body asks for one."}
    if method != "HEAD":
        success["content"] = content
    operation: Json = {
        "operationId": f"{route.name}_{method.lower()}" + ("_hosted" if path != route.path else ""),
        "summary": (inspect.getdoc(route.endpoint) or route.name.replace("_", " ")).split("\n")[0],
        "responses": {"200": success, "4XX": _failure(), "5XX": _failure()},
    }
    if "{model_id" in path:
        parameter = {"name": "model_id", "in": "path", "required": True, "schema": _TEXT}
        operation["parameters"] = [parameter]
    if shape is not None:
        schema = {"$ref": f"#/components/schemas/{shape}"}
        body = {"required": True, "content": {"application/json": {"schema": schema}}}
        operation["requestBody"] = body
    return operation


def _failure() -> Json:
    known = [{"$ref": f"#/components/schemas/{name}"} for name in ("Error", "ClaudeError")]
    content = {"application/json": {"schema": {"anyOf": known}}}
    return {"description": "What is wrong, in the client's dialect.", "content": content}


def _schemas() -> Json:
    schemas: Json = {"Error": _ERROR, "ClaudeError": _CLAUDE_ERROR}
    for name, shape in _SHAPES.items():
        reference = f"#/components/schemas/{name}.{{model}}"
        schema = shape.model_json_schema(ref_template=reference)
        nested: Json = schema.pop("$defs", {})
        schemas[name] = schema
        schemas |= {f"{name}.{inner}": found for inner, found in nested.items()}
    for name, fields in _WIDER.items():
        schemas[name]["properties"] |= fields
    for name, required in _REQUIRED.items():
        schemas[name]["required"] = required
    return schemas
