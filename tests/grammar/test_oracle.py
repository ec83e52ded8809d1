"""llguidance as the judge: it accepts what is written here, and what Python writes is accepted."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from openk2.grammar.answer import AnswerRule, compile_answer
from openk2.grammar.vocabulary import Vocabulary
from tests.grammar.plain import answer, document, endless, filled, opening, spell, uniform
from tests.grammar.schemas import SCHEMAS

llguidance = pytest.importorskip("llguidance")

UNKNOWN = ("map with names", "listed names", "dropped name", "counted properties", "questions")
"""What llguidance refuses: propertyNames, minProperties."""


@pytest.fixture(scope="module")
def judge(small: Vocabulary) -> Any:
    names = {id: name.encode() for name, id in small.specials.items()}

    class Tokens:
        eos_token_id = small.specials["<|im_end|>"]
        bos_token_id = None
        tokens = [small.token_bytes[v] or names[v] for v in range(small.size)]  # noqa: RUF012
        special_token_ids = list(small.specials.values())  # noqa: RUF012

        def __call__(self, text: Any) -> list[int]:
            return small.encode(text if isinstance(text, bytes) else text.encode())

    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(Tokens()), n_vocab=small.size)


@pytest.mark.parametrize("name", [name for name in SCHEMAS if name not in UNKNOWN])
def test_llguidance_accepts_every_document(name: str, judge: Any, small: Vocabulary):
    schema = json.dumps(SCHEMAS[name])
    for keyword in ('"format": "uri"', '"format": "made-up"', '"uniqueItems": true'):
        schema = schema.replace(keyword, '"deprecated": true')  # not enforced, or not known
    text = llguidance.LLMatcher.grammar_from_json_schema(schema)
    grammar = compile_answer(AnswerRule(answer_schema=SCHEMAS[name]), small)
    for seed in range(8):
        choose = (uniform, endless, opening)[seed % 3]
        ids = answer(grammar, small, 120 + 20 * seed, random.Random(seed), choose)
        matcher = llguidance.LLMatcher(judge, text)
        assert not matcher.get_error()
        # It knows one spelling of a string, without escapes but where JSON needs them.
        found = json.dumps(document(ids, small), ensure_ascii=False).replace("\x7f", "")
        ids = small.encode(found.encode(errors="replace"))
        taken = matcher.try_consume_tokens(ids)
        assert taken == len(ids), spell(ids[: taken + 1], small)
        assert matcher.is_accepting()


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_python_writes_of_a_document_is_accepted(name: str, small: Vocabulary):
    grammar = compile_answer(AnswerRule(answer_schema=SCHEMAS[name]), small)
    for seed in range(6):
        ids = answer(grammar, small, 160, random.Random(seed), uniform)
        found = document(ids, small)
        text = json.dumps(found, ensure_ascii=False)
        if "Infinity" in text or "e-" in text or "e+" in text or "." in text:
            continue  # Python writes some floats with more digits than bounds are written with
        matcher = grammar.matcher(10_000)
        try:
            data = text.encode()
        except UnicodeEncodeError:
            continue
        for token in small.encode(data):
            assert token in filled(matcher, small), text
            matcher.accept(token)
        assert small.specials["<|im_end|>"] in filled(matcher, small)
