"""The served document describes the server: what it generates is answered and never a 5xx."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

from openk2.server.app import create_app
from openk2.server.openapi import document

BODIES = ("Chat", "Response", "Completion", "Message")
PATHS = {
    "Chat": "/v1/chat/completions",
    "Response": "/v1/responses",
    "Completion": "/v1/completions",
    "Message": "/v1/messages",
}


@pytest.fixture(scope="module")
def served(connect, script):
    """A client's base URL and the document that the server has of itself."""
    with connect(script("Hello")) as client:
        root = str(client.base_url).removesuffix("/v1/")
        with httpx.Client(base_url=root, timeout=30, verify=False) as http:
            yield http, http.get("/openapi.json").json()


def inlined(document: Any, schema: Any) -> Any:
    """Return a schema whose references lead into itself."""
    text = json.dumps({**schema, "$defs": document["components"]["schemas"]})
    return json.loads(text.replace("#/components/schemas/", "#/$defs/"))


def test_every_route_is_described():
    app = create_app(type("Nobody", (), {"models": ()})())  # type: ignore[arg-type]
    described = document(app.routes)["paths"]
    routes = {
        (route.path.replace(":path", ""), method)  # type: ignore[attr-defined]
        for route in app.routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    assert {(p, m.upper()) for p, entry in described.items() for m in entry} == routes
    names = [o["operationId"] for entry in described.values() for o in entry.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", BODIES)
def test_every_shape_is_a_schema_whose_references_lead_somewhere(served, name):
    _, described = served
    schema = inlined(described, described["components"]["schemas"][name])
    jsonschema.Draft202012Validator.check_schema(schema)
    list(jsonschema.Draft202012Validator(schema).iter_errors({"messages": [{"role": 5}]}))


ORDINARY: dict[str, dict[str, Any]] = {
    "Chat": {
        "model": "nano",
        "messages": [
            {"role": "system", "content": "x"},
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        ],
        "stop": "END",
        "logit_bias": {"5": -100},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "stream_options": {"include_usage": True},
        "heavy": {"trajectories": 2},
        "prompt_cache_key": "s",
    },
    "Response": {"input": [{"role": "user", "content": "hi"}], "instructions": "be", "tools": []},
    "Completion": {"prompt": ["a", "b"], "n": 2, "logprobs": 1, "stop": ["x"]},
    "Message": {
        "max_tokens": 5,
        "system": "x",
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "thinking": {"type": "adaptive"},
    },
}


@pytest.mark.parametrize("name", BODIES)
def test_ordinary_bodies_are_described_and_answered(served, name):
    http, described = served
    schema = inlined(described, described["components"]["schemas"][name])
    jsonschema.validate(ORDINARY[name], schema)
    assert http.post(PATHS[name], json=ORDINARY[name]).status_code == 200


@pytest.mark.slow
@pytest.mark.timeout(900)  # to make a body takes far longer than to answer it
@pytest.mark.parametrize("name", BODIES)
def test_no_described_body_breaks_the_server(served, name):
    schemathesis = pytest.importorskip("schemathesis")
    http, described = served
    envelope = {"$ref": f"#/components/schemas/{'ClaudeError' if name == 'Message' else 'Error'}"}
    checker = jsonschema.Draft202012Validator(inlined(described, envelope))
    bodies = schemathesis.openapi.from_dict(described)[PATHS[name]]["POST"].as_strategy()

    @settings(max_examples=200, suppress_health_check=list(HealthCheck), database=None)
    @given(bodies)
    def ask(case: Any) -> None:
        response = http.post(PATHS[name], content=json.dumps(case.body).encode())
        assert response.status_code in (200, 400, 404), response.text
        if response.status_code != 200:
            error = response.json()
            checker.validate(error)
            named = error["error"].get("param") or error["error"]["message"]
            assert named.partition(":")[0].partition("[")[0].partition(".")[0], error
            assert error["error"].get("param") or name == "Message" or "body" in named, error

    ask()
