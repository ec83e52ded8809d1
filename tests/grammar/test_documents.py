"""Whatever is drawn, every document is JSON, satisfies its schema and keeps its budget."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openk2.grammar.answer import AnswerRule, BudgetError, SchemaError, compile_answer
from openk2.grammar.vocabulary import Vocabulary
from openk2.text.tokenizer import Tokenizer
from tests.grammar.plain import answer, document, endless, filled, opening, spell, uniform
from tests.grammar.schemas import SCHEMAS


def validator(schema: Any) -> Any:
    return jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def least(grammar: Any) -> int:
    with pytest.raises(BudgetError) as caught:
        grammar.matcher(0)
    return caught.value.least


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_document_satisfies_its_schema(name: str, small: Vocabulary):
    schema = SCHEMAS[name]
    grammar = compile_answer(AnswerRule(answer_schema=schema), small)
    assert not grammar.warnings
    valid = validator(schema)
    fewest = least(grammar)
    rng = random.Random(name)
    for i, extra in enumerate((0, 1, 3, 10, 25, 60, 60, 60)):
        choose = (uniform, endless, opening)[i % 3]
        ids = answer(grammar, small, fewest + extra, rng, choose, jump=i % 2 == 0)
        valid.validate(document(ids, small))


@pytest.mark.slow
def test_two_thousand_documents_of_the_shipped_vocabulary(nano: tuple[Tokenizer, Vocabulary]):
    _, vocabulary = nano
    for name, schema in SCHEMAS.items():
        grammar = compile_answer(AnswerRule(answer_schema=schema), vocabulary)
        fewest = least(grammar)
        rng = random.Random(name)
        for i in range(2000 // len(SCHEMAS) + 1):
            choose = (uniform, endless, opening)[i % 3]
            budget = fewest + rng.choice((0, 1, 5, 20, 60, 120))
            ids = answer(grammar, vocabulary, budget, rng, choose, jump=i % 2 == 0)
            validator(schema).validate(document(ids, vocabulary))


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_shortest_budget_is_told_exactly(name: str, small: Vocabulary):
    grammar = compile_answer(AnswerRule(answer_schema=SCHEMAS[name]), small)
    fewest = least(grammar)
    with pytest.raises(BudgetError, match=f"at least {fewest}"):
        grammar.matcher(fewest - 1)
    assert len(answer(grammar, small, fewest, random.Random(0))) <= fewest


@pytest.mark.parametrize("name", SCHEMAS)
def test_jumping_writes_what_could_have_been_drawn(name: str, small: Vocabulary):
    grammar = compile_answer(AnswerRule(answer_schema=SCHEMAS[name]), small)
    for seed in range(4):
        rng = random.Random(seed)
        jumping, stepping = grammar.matcher(300), grammar.matcher(300)
        ids: list[int] = []
        while not jumping.complete:
            for token in jumping.jump():
                assert token in filled(stepping, small), spell(ids, small)
                stepping.accept(token)
                ids.append(token)
            if jumping.complete:
                break
            choices = filled(jumping, small)
            assert choices == filled(stepping, small), spell(ids, small)
            ids.append(uniform(rng, choices, small))
            jumping.accept(ids[-1])
            stepping.accept(ids[-1])
        assert stepping.complete


def test_forced_text_is_tokenised_as_a_whole_and_its_last_token_is_left_open(small: Vocabulary):
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    matcher = compile_answer(AnswerRule(answer_schema=schema), small).matcher(50)
    # `": "` could be the beginning of a longer token.
    assert spell(matcher.jump(), small) == '{"name'
    assert matcher.jump() == []
    for token in small.encode(b'": "'):
        matcher.accept(token)
    matcher.accept(small.encode(b'"')[0])
    assert spell(matcher.jump(), small) == "}<|im_end|>"
    assert matcher.complete


# Schemas that nobody thought of ------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "ab", "kind", "名前", 'q"', "x-1"])
SCALARS = st.one_of(
    st.sampled_from([{}, True, {"type": "null"}, {"type": "boolean"}, {"type": "integer"}]),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 3),
        st.integers(0, 5),
    ),
    st.builds(
        lambda kind, low, more: {"type": kind, "minimum": low, "maximum": low + more},
        st.sampled_from(["integer", "number"]),
        st.one_of(st.integers(-200, 200), st.decimals(-2, 2, places=2).map(float)),
        st.integers(1, 500),
    ),
    st.sampled_from(
        [
            {"type": "string", "pattern": "^[a-c]{2,4}$"},
            {"type": "string", "pattern": "a+b"},
            {"type": "string", "pattern": "^(x|yz)*$", "maxLength": 5},
            {"type": "string", "format": "date"},
            {"type": "integer", "multipleOf": 3},
            {"type": ["string", "integer", "null"]},
        ]
    ),
    st.builds(
        lambda values: {"enum": values},
        st.lists(
            st.one_of(st.none(), st.booleans(), st.integers(-99, 99), st.text(max_size=4)),
            min_size=1,
            max_size=4,
        ),
    ),
)


def wholes(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def properties(declared: dict[str, Any], data: Any) -> dict[str, Any]:
        return {"type": "object", "properties": declared, **data}

    return st.one_of(
        st.builds(
            properties,
            st.dictionaries(NAMES, inner, max_size=4),
            st.fixed_dictionaries(
                {"required": st.lists(NAMES, max_size=2, unique=True)},
                optional={
                    "additionalProperties": st.one_of(st.booleans(), inner),
                    "minProperties": st.integers(0, 1),
                    "propertyNames": st.just({"maxLength": 3}),
                },
            ),
        ),
        st.builds(
            lambda items, low, more: {
                "type": "array",
                "items": items,
                "minItems": low,
                "maxItems": low + more,
            },
            inner,
            st.integers(0, 2),
            st.integers(0, 3),
        ),
        st.builds(
            lambda items: {"type": "array", "prefixItems": items, "items": False},
            st.lists(inner, min_size=1, max_size=3),
        ),
        st.builds(lambda parts: {"anyOf": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"oneOf": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda a, b: {"allOf": [a, b]}, inner, inner),
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    schema=st.recursive(SCALARS, wholes, max_leaves=8),
    seed=st.integers(0, 1 << 30),
    extra=st.sampled_from([0, 2, 9, 80]),
    choose=st.sampled_from([uniform, endless, opening]),
)
def test_random_schemas(schema: Any, seed: int, extra: int, choose: Any, small: Vocabulary):
    rule = AnswerRule(answer_schema=schema)
    try:
        grammar = compile_answer(rule, small)
    except SchemaError as error:
        assert "cannot be satisfied" in error.problem
        return
    fewest = least(grammar)
    ids = answer(grammar, small, fewest + extra, random.Random(seed), choose, jump=seed % 2 == 0)
    found = document(ids, small)
    if not grammar.warnings:
        validator(schema).validate(found)
    # What was written can be written again, as json.dumps writes it.
    matcher = grammar.matcher(5000)
    text = spell(ids, small).removesuffix("<|im_end|>")
    if json.dumps(found, ensure_ascii=False) == text:
        for token in small.encode(text.encode()):
            assert token in filled(matcher, small)
            matcher.accept(token)
