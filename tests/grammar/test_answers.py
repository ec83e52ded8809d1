"""The whole answer: text or calls, reasoning before it, and always within its budget."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest

from openk2.grammar import answer as rules
from openk2.grammar.answer import (
    AnswerRule,
    BudgetError,
    GrammarViolationError,
    Thinking,
    compile_answer,
)
from openk2.grammar.vocabulary import Vocabulary
from openk2.text import template
from openk2.text.parse import StreamParser, assemble
from openk2.text.tokenizer import Tokenizer
from openk2.types import ToolSpec
from tests.grammar.plain import answer, endless, filled, spell, uniform
from tests.grammar.schemas import SCHEMAS

WEATHER = ToolSpec("get", "", SCHEMAS["plain"])
OTHER = ToolSpec("get_all", "", SCHEMAS["arrays"])
ODD = ToolSpec("ツール-x.y", "", {"type": "object", "properties": {}})
TOOLS = (WEATHER, OTHER, ODD)
BEGIN, END = template.SECTION_BEGIN, template.SECTION_END


def calls(text: str) -> list[tuple[str, str]]:
    """Take a tool section apart, strictly."""
    assert text.startswith(BEGIN + template.CALL_BEGIN), text
    assert text.endswith(template.CALL_END + END + template.IM_END), text
    inner = text.removeprefix(BEGIN).removesuffix(END + template.IM_END)
    found = []
    for call in inner.split(template.CALL_END)[:-1]:
        head, _, arguments = call.removeprefix(template.CALL_BEGIN).partition(
            template.ARGUMENT_BEGIN
        )
        found.append((head, arguments))
    return found


def test_special_tokens_are_those_of_the_template():
    assert (rules.END, rules.THINK, rules.THINK_END) == (
        template.IM_END,
        template.THINK,
        template.THINK_END,
    )
    names = ("SECTION_BEGIN", "SECTION_END", "CALL_BEGIN", "ARGUMENT_BEGIN", "CALL_END")
    assert [getattr(rules, n) for n in names] == [getattr(template, n) for n in names]


@pytest.mark.parametrize("jump", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_required_gives_declared_names_counted_ids_and_valid_arguments(
    seed: int, jump: bool, small: Vocabulary
):
    rule = AnswerRule(TOOLS, "required", first_call_index=7)
    rng = random.Random(seed)
    ids = answer(compile_answer(rule, small), small, 150 + 40 * seed, rng, uniform, jump)
    schemas = {tool.name: tool.parameters for tool in TOOLS}
    for k, (head, arguments) in enumerate(calls(spell(ids, small))):
        name = head.removeprefix("functions.").removesuffix(f":{7 + k}")
        assert template.call_id(name, 7 + k) == head
        jsonschema.validate(json.loads(arguments), schemas[name])


def test_a_named_tool_is_the_only_one_that_is_called(small: Vocabulary):
    grammar = compile_answer(AnswerRule(TOOLS, "get_all", max_calls=1), small)
    for seed in range(4):
        ids = answer(grammar, small, 200, random.Random(seed), endless)
        [(head, _)] = calls(spell(ids, small))
        assert head == "functions.get_all:0"
    with pytest.raises(ValueError, match="'nobody' needs a tool"):
        compile_answer(AnswerRule(TOOLS, "nobody"), small)


def test_auto_may_answer_in_text_and_then_call(small: Vocabulary):
    matcher = compile_answer(AnswerRule(TOOLS), small).matcher(400)
    special = {small.specials[name] for name in (BEGIN, template.IM_END)}
    choices = filled(matcher, small)
    assert {v for v in choices if small.token_bytes[v] is None} == special
    assert len(choices) == len(small.lexicon.texts) + 2
    assert matcher.until == frozenset(special) and matcher.jump() == []
    for token in small.encode(b"Let me look."):
        matcher.accept(token)
    matcher.accept(small.specials[BEGIN])
    assert matcher.until is None
    assert spell(matcher.jump(), small) == template.CALL_BEGIN
    assert {small.token_bytes[v] for v in filled(matcher, small)} >= {b"f", b"functions."}


def test_none_allows_text_only(small: Vocabulary):
    matcher = compile_answer(AnswerRule(TOOLS, "none"), small).matcher(10)
    assert small.specials[BEGIN] not in filled(matcher, small)
    matcher.accept(small.specials[template.IM_END])
    assert matcher.complete
    with pytest.raises(GrammarViolationError):
        matcher.accept(65)


def test_a_section_does_not_begin_when_the_budget_no_longer_holds_a_call(small: Vocabulary):
    grammar = compile_answer(AnswerRule(TOOLS), small)
    required = compile_answer(AnswerRule(TOOLS, "required"), small)
    with pytest.raises(BudgetError) as caught:
        required.matcher(3)
    least = caught.value.least
    begin = small.specials[BEGIN]
    matcher = grammar.matcher(least + 100)
    for left in range(least + 100, 0, -1):
        assert (begin in filled(matcher, small)) == (left >= least)
        # The engine writes up to 16 tokens without asking.
        assert matcher.until is None or left > least + 16
        matcher.accept(65)
    matcher = grammar.matcher(least)
    matcher.accept(begin)
    ids = [begin]
    while not matcher.complete:
        ids += matcher.jump()
        if not matcher.complete:
            ids.append(endless(random.Random(0), filled(matcher, small), small))
            matcher.accept(ids[-1])
    assert len(ids) <= least and calls(spell(ids, small))


def test_two_tools_whose_names_begin_alike_are_told_apart(small: Vocabulary):
    grammar = compile_answer(AnswerRule(TOOLS, "required", max_calls=1), small)
    for head in ("functions.get:0", "functions.get_all:0", "functions.ツール-x.y:0"):
        matcher = grammar.matcher(300)
        for name in (BEGIN, template.CALL_BEGIN):
            matcher.accept(small.specials[name])
        for token in small.encode(head.encode()):
            assert token in filled(matcher, small)
            matcher.accept(token)
        assert filled(matcher, small) == [small.specials[template.ARGUMENT_BEGIN]]


@pytest.mark.parametrize("seed", range(4))
def test_the_parser_reads_what_was_written(seed: int, nano: tuple[Tokenizer, Vocabulary]):
    tokenizer, vocabulary = nano
    rule = AnswerRule(TOOLS, "required", first_call_index=2, thinking=Thinking.MUST)
    grammar = compile_answer(rule, vocabulary)
    ids = answer(grammar, vocabulary, 200 + 100 * seed, random.Random(seed), uniform)
    parser = StreamParser(tokenizer, first_call_index=2)
    message = assemble(parser.feed(ids[:-1]) + parser.finish("stop"))
    schemas = {tool.name: tool.parameters for tool in TOOLS}
    assert message.tool_calls and not message.content
    for k, call in enumerate(message.tool_calls):
        assert call.id == template.call_id(call.name, 2 + k)
        jsonschema.validate(json.loads(call.arguments), schemas[call.name])


def test_what_is_forced_is_tokenised_as_text_is(nano: tuple[Tokenizer, Vocabulary]):
    tokenizer, vocabulary = nano
    matcher = compile_answer(AnswerRule((WEATHER,), "required"), vocabulary).matcher(100)
    jumped = tokenizer.decode(matcher.jump())
    head = f"{BEGIN}{template.CALL_BEGIN}functions.get:0{template.ARGUMENT_BEGIN}"
    assert jumped.startswith(head) and '{"'.startswith(jumped.removeprefix(head))
    specials = {name: id for name, id in tokenizer.specials.items() if name in head}
    assert sorted(specials) == sorted([BEGIN, template.CALL_BEGIN, template.ARGUMENT_BEGIN])


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
        {"$ref": "#/$defs/o", "$defs": {"o": SCHEMAS["plain"]}},
        {"anyOf": [SCHEMAS["plain"], {"type": "null"}]},
        {"type": ["object", "null"], "required": ["q"]},
    ],
)
def test_arguments_are_always_an_object(parameters: dict, small: Vocabulary):
    grammar = compile_answer(AnswerRule((ToolSpec("f", "", parameters),), "f"), small)
    for seed in range(3):
        ids = answer(grammar, small, 120, random.Random(seed), uniform)
        for _, arguments in calls(spell(ids, small)):
            found = json.loads(arguments)
            assert isinstance(found, dict)
            jsonschema.validate(found, parameters)


# Reasoning --------------------------------------------------------------------------------------


def test_reasoning_may_come_first(small: Vocabulary):
    grammar = compile_answer(AnswerRule(TOOLS, "required", thinking=True), small)
    think, close = (small.specials[t] for t in (template.THINK, template.THINK_END))
    matcher = grammar.matcher(200)
    assert filled(matcher, small) == sorted([small.specials[BEGIN], think])
    matcher.accept(think)
    assert matcher.until == frozenset([close])
    assert {v for v in filled(matcher, small) if small.token_bytes[v] is None} == {close}
    matcher.accept(65)
    matcher.accept(close)
    assert matcher.jump()[0] == small.specials[BEGIN]
    straight = grammar.matcher(200)
    straight.accept(small.specials[BEGIN])
    assert not straight.complete


@pytest.mark.parametrize("budget", [0, 1, 5])
def test_reasoning_is_closed_when_its_budget_is_spent(budget: int, small: Vocabulary):
    rule = AnswerRule(thinking=Thinking.MUST, thinking_budget=budget)
    matcher = compile_answer(rule, small).matcher(200)
    think, close = (small.specials[t] for t in (template.THINK, template.THINK_END))
    assert filled(matcher, small) == [think]
    matcher.accept(think)
    for _ in range(budget):
        assert len(filled(matcher, small)) > 1
        matcher.accept(65)
    assert filled(matcher, small) == [close] and matcher.jump() == [close]
    assert small.specials[template.IM_END] in filled(matcher, small)


@pytest.mark.parametrize("choice", ["required", "get"])
@pytest.mark.parametrize("thinking", [Thinking.MUST, Thinking.INSIDE])
def test_reasoning_leaves_room_for_the_call(choice: str, thinking: Thinking, small: Vocabulary):
    grammar = compile_answer(AnswerRule(TOOLS, choice, thinking=thinking), small)
    with pytest.raises(BudgetError) as caught:
        grammar.matcher(1)
    for extra in (0, 1, 30):
        budget = caught.value.least + extra
        text = spell(answer(grammar, small, budget, random.Random(extra), endless), small)
        reasoning, _, rest = text.partition(template.THINK_END)
        assert reasoning.startswith(template.THINK) == (thinking is Thinking.MUST)
        assert calls(rest)


def test_a_vocabulary_without_thinking_tokens_does_not_think():
    tokens = [bytes((byte,)) for byte in range(256)]
    small = Vocabulary([*tokens, None], {template.IM_END: 256}, list)
    matcher = compile_answer(AnswerRule(thinking=True), small).matcher(5)
    assert filled(matcher, small) == list(range(257))


# JSON answers and sharing -----------------------------------------------------------------------


def test_a_json_answer_may_be_a_call_instead(small: Vocabulary):
    rule = AnswerRule((WEATHER,), answer_schema=True)
    grammar = compile_answer(rule, small)
    first = filled(grammar.matcher(100), small)
    assert small.specials[BEGIN] in first
    texts = [small.token_bytes[v] for v in first if v != small.specials[BEGIN]]
    assert texts and all(text and text.startswith(b"{") for text in texts)


def test_equal_tools_share_what_was_computed(small: Vocabulary):
    one = compile_answer(AnswerRule(TOOLS, "required"), small)
    two = compile_answer(AnswerRule(TOOLS, "required", first_call_index=3), small)
    assert one._masks is two._masks
    assert compile_answer(AnswerRule((WEATHER,), "required"), small)._masks is not one._masks


def test_threads_may_share_a_grammar(small: Vocabulary):
    rule = AnswerRule(TOOLS, "required", first_call_index=40)

    def write(seed: int) -> str:
        grammar = compile_answer(rule, small)
        return spell(answer(grammar, small, 250, random.Random(seed), uniform), small)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(write, range(12)))
    assert together == [write(seed) for seed in range(12)]
    assert all(map(calls, together))


def test_a_token_that_is_not_allowed_is_refused(small: Vocabulary):
    matcher = compile_answer(AnswerRule(TOOLS, "required"), small).matcher(300)
    with pytest.raises(GrammarViolationError, match="token 65"):
        matcher.accept(65)
