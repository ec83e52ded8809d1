"""OpenAPI 3: every operation is a tool whose arguments are its parameters and its JSON body.

In: an OpenAPI document. Out: tools as `specs` checks them. Must not know: HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from openk2.synth.spec_check import Bad, Found, Inliner, SpecLimits, follow

_METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")
_VERBS = {"get": "get", "put": "replace", "post": "create", "delete": "delete", "patch": "update"}
_ILLEGAL = re.compile(r"[^A-Za-z0-9_-]+")
_HTTP = ("authorization", "content-type", "accept")
"""Headers that whoever calls sets by itself; OpenAPI says that they are to be ignored."""


def is_openapi(document: Mapping[str, Any]) -> bool:
    """Tell whether a document describes an API."""
    return "paths" in document and ("openapi" in document or "swagger" in document)


def openapi_tools(document: Mapping[str, Any], limits: SpecLimits) -> Iterator[Found]:
    """Yield an API's operations.

    Args:
        document: The description of the API.
        limits: How large one tool may be.
    """
    version = str(document.get("openapi", document.get("swagger", "")))
    if not version.startswith("3"):
        problem = f"is OpenAPI {version[:20]}; convert it to OpenAPI 3"
        yield Found("openapi", "", None, None, problem=problem)
        return
    paths: Any = document["paths"]
    if not isinstance(paths, dict):
        yield Found("paths", "", None, None, problem="is not an object")
        return
    for path, item in cast("dict[str, Any]", paths).items():
        if not isinstance(item, dict):
            yield Found(f"paths.{path[:80]}", "", None, None, problem="is not an object")
            continue
        operations = cast("dict[str, Any]", item)
        for method in _METHODS:
            if method in operations:
                yield _operation(document, path, method, operations, limits)


def _operation(
    document: Mapping[str, Any],
    path: str,
    method: str,
    item: Mapping[str, Any],
    limits: SpecLimits,
) -> Found:
    where = f"{method.upper()} {path[:80]}"
    operation = item[method]
    if not isinstance(operation, dict):
        return Found(where, "", None, None, problem="is not an object")
    table = cast("dict[str, Any]", operation)
    inliner = Inliner(limits, document, cut=True)
    name = _name(table, method, path)
    try:
        schema = _arguments(document, item, table, inliner)
        output = _output(document, table)
    except Bad as problem:
        return Found(where, name, None, None, problem=str(problem))
    told = [table.get(key) for key in ("summary", "description")]
    texts = [text.strip().rstrip(".") for text in told if isinstance(text, str) and text.strip()]
    description = ". ".join(dict.fromkeys(texts))
    notes = tuple(f"{cut}; any object is taken there" for cut in inliner.cuts)
    return Found(where, name, description, schema, output, document, notes=notes)


def _name(operation: Mapping[str, Any], method: str, path: str) -> str:
    given = operation.get("operationId")
    if isinstance(given, str) and given:
        return _ILLEGAL.sub("_", given).strip("_")[:64]
    steps = [part for part in re.split(r"[/{}]+", path) if part]
    name = "_".join([_VERBS.get(method, method), *steps])
    return _ILLEGAL.sub("_", name).strip("_")[:64]


def _arguments(
    document: Mapping[str, Any],
    item: Mapping[str, Any],
    operation: Mapping[str, Any],
    inliner: Inliner,
) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in _parameters(document, item, operation):
        name, place = parameter.get("name"), parameter.get("in")
        if not isinstance(name, str):
            raise Bad("parameters: one has no name")
        if place == "cookie" or (place == "header" and name.lower() in _HTTP):
            continue
        schema = inliner.inlined(_schema_of(parameter), f"parameters.{name[:40]}")
        if isinstance(parameter.get("description"), str):
            schema.setdefault("description", parameter["description"])
        properties[name] = schema
        if parameter.get("required") is True:
            required.append(name)
    body, needed = _body(document, operation, inliner)
    for name, schema in body.get("properties", {}).items():
        # A body may say again what the path says: one argument serves both.
        properties.setdefault(name, schema)
    if body and not body.get("properties"):
        properties["body"] = body
        required += ["body"] if needed else []
    elif needed:
        required += [name for name in body.get("required", []) if name not in required]
    return {"type": "object", "properties": properties, "required": required}


def _parameters(
    document: Mapping[str, Any], item: Mapping[str, Any], operation: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Yield parameters; those of the operation take the place of those of the path."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for source in (item.get("parameters"), operation.get("parameters")):
        for entry in cast("list[Any]", source) if isinstance(source, list) else []:
            if not isinstance(entry, dict):
                raise Bad("parameters: one is not an object")
            parameter: Mapping[str, Any] = cast("dict[str, Any]", entry)
            if isinstance(parameter.get("$ref"), str):
                parameter = follow(document, parameter["$ref"], "parameters")
            found[str(parameter.get("name")), str(parameter.get("in"))] = parameter
    yield from found.values()


def _schema_of(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of a parameter, which may be under its media type."""
    schema = table.get("schema")
    if isinstance(schema, dict):
        return cast("dict[str, Any]", schema)
    content = _json_content(table)
    return content if content is not None else {"type": "string"}


def _json_content(table: Mapping[str, Any]) -> Mapping[str, Any] | None:
    content = table.get("content")
    if not isinstance(content, dict):
        return None
    kinds = cast("dict[str, Any]", content)
    for kind in (*(k for k in kinds if "json" in k), *kinds):
        media = kinds[kind]
        schema = cast("dict[str, Any]", media).get("schema") if isinstance(media, dict) else None
        if isinstance(schema, dict):
            return cast("dict[str, Any]", schema)
    return None


def _body(
    document: Mapping[str, Any], operation: Mapping[str, Any], inliner: Inliner
) -> tuple[dict[str, Any], bool]:
    body = operation.get("requestBody")
    if not isinstance(body, dict):
        return {}, False
    table: Mapping[str, Any] = cast("dict[str, Any]", body)
    if isinstance(table.get("$ref"), str):
        table = follow(document, table["$ref"], "requestBody")
    schema = _json_content(table)
    if schema is None:
        return {}, False
    return _flat(inliner.inlined(schema, "requestBody")), table.get("required") is True


def _flat(schema: dict[str, Any]) -> dict[str, Any]:
    """Join the parts of `allOf`, so that a body's properties become arguments."""
    parts = schema.get("allOf")
    if not isinstance(parts, list):
        return schema
    joined: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
    for part in (*cast("list[Any]", parts), schema):
        if not isinstance(part, dict):
            return schema
        table = cast("dict[str, Any]", part)
        flat = table if part is schema else _flat(table)
        joined["properties"].update(flat.get("properties", {}))
        joined["required"] += [n for n in flat.get("required", []) if n not in joined["required"]]
    return joined


def _output(document: Mapping[str, Any], operation: Mapping[str, Any]) -> Any:
    """Return the schema of the first answer that means success."""
    responses = operation.get("responses")
    if not isinstance(responses, dict):
        return None
    table = cast("dict[str, Any]", responses)
    for code in sorted(key for key in map(str, table) if key.startswith("2")):
        answer = table.get(code)
        if isinstance(answer, dict):
            answer_table: Mapping[str, Any] = cast("dict[str, Any]", answer)
            if isinstance(answer_table.get("$ref"), str):
                answer_table = follow(document, answer_table["$ref"], "responses")
            return _json_content(answer_table)
    return None
