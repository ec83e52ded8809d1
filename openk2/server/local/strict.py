"""What an answer may hold: a request's tools, forced choice, JSON schema and limits as a grammar.

In: a `ChatRequest` and its prompt. Out: a `Grammar`, or None where anything may be said.
Must not know: HTTP, the engine, how masks are made.
"""

from __future__ import annotations

import re

from openk2.grammar.answer import (
    AnswerRule,
    BudgetError,
    Grammar,
    Matcher,
    SchemaError,
    Thinking,
    compile_answer,
)
from openk2.grammar.vocabulary import Vocabulary
from openk2.server.errors import ApiError
from openk2.server.local.prompt import Prompt
from openk2.server.request import ChatRequest, NamedTool
from openk2.text.template import (
    ARGUMENT_BEGIN,
    CALL_BEGIN,
    CALL_END,
    IM_END,
    SECTION_BEGIN,
    SECTION_END,
)
from openk2.text.tokenizer import Tokenizer

_NEEDED = (IM_END, SECTION_BEGIN, SECTION_END, CALL_BEGIN, ARGUMENT_BEGIN, CALL_END)
_RESERVED = ("auto", "none", "required")
_TOOL = re.compile(r"tools\[(\d+)\]\.parameters")


def vocabulary_of(tokenizer: Tokenizer) -> Vocabulary | None:
    """Return the vocabulary that grammars are made for; None if it cannot write tool calls."""
    if not all(name in tokenizer.specials for name in _NEEDED):
        return None
    specials = frozenset(tokenizer.specials.values())
    spelled = [
        None if token in specials else tokenizer.token_bytes(token)
        for token in range(tokenizer.vocab_size)
    ]
    return Vocabulary(spelled, tokenizer.specials, tokenizer.encode_bytes)


def compile_request(request: ChatRequest, prompt: Prompt, vocabulary: Vocabulary) -> Grammar | None:
    """Make the grammar of a request's answers; None if it asks for nothing but text.

    Raises:
        ApiError: 400, a schema cannot be used.
    """
    budget = None if prompt.thinking == "never" else request.thinking.budget
    if not request.tools and request.answer_format is None and budget is None:
        return None
    try:
        return compile_answer(_rule(request, prompt, budget), vocabulary)
    except SchemaError as error:
        raise _unusable(request, error) from None


def start(grammar: Grammar, budget: int, request: ChatRequest) -> Matcher:
    """Begin an answer of at most `budget` tokens.

    Raises:
        ApiError: 400, no answer that obeys the request is so short.
    """
    try:
        return grammar.matcher(budget)
    except BudgetError as error:
        field = request.limit_field
        message = f"{field}: {error}."
        raise ApiError(400, message, param=field, code="max_tokens_too_small") from None


def _rule(request: ChatRequest, prompt: Prompt, budget: int | None) -> AnswerRule:
    tools, choice = request.tools, request.tool_choice
    max_calls = None if request.parallel_tool_calls else 1
    if isinstance(choice, NamedTool):
        # OpenAI's and Anthropic's servers answer a forced tool with one call of it.
        max_calls = 1
        name = choice.name
        if name in _RESERVED:
            tools = tuple(tool for tool in tools if tool.name == name)
            choice = "required"
        else:
            choice = name
    answer = request.answer_format
    return AnswerRule(
        tools=tools,
        choice=choice,
        max_calls=max_calls,
        first_call_index=prompt.first_call_index,
        # Any object satisfies a schema that says nothing.
        answer_schema=None if answer is None else answer.schema or True,
        thinking=Thinking(prompt.thinking),
        thinking_budget=budget,
    )


def _unusable(request: ChatRequest, error: SchemaError) -> ApiError:
    found = _TOOL.match(error.path)
    if found is None:
        field = request.schema_field
        inner = error.path.removeprefix("schema")
        return ApiError(400, f"{field}: {error.problem}, at {inner or 'its root'}.", param=field)
    name = request.tools[int(found[1])].name
    inner = error.path[found.end() :] or " its root"
    message = f"tools: the parameters of {name!r} cannot be used: {error.problem}, at{inner}."
    return ApiError(400, message, param="tools")
