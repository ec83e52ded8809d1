"""The rule for one answer, and the grammar that is made of it.

In: the tools of a request and how they may be called, or the schema of a JSON answer. Out: a
`Grammar`, which any number of answers share; each has a matcher of its own.
Must not know: how schemas become shapes, how masks are computed, requests of any dialect.

The tool section is written as Kimi K2's template writes it: special tokens around
`functions.NAME:IDX` and the arguments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from openk2.grammar.automaton import Arena, State
from openk2.grammar.keywords import MAX_CHARACTERS, SchemaError
from openk2.grammar.masks import Masks
from openk2.grammar.matcher import BudgetError, GrammarViolationError, Matcher, Plan
from openk2.grammar.nodes import Node, Piece, Special, Value, Words
from openk2.grammar.schema import Compiler
from openk2.grammar.shapes import Shape
from openk2.grammar.vocabulary import Vocabulary
from openk2.types import ToolSpec

__all__ = [
    "AnswerRule",
    "BudgetError",
    "Grammar",
    "GrammarViolationError",
    "Matcher",
    "SchemaError",
    "Thinking",
    "compile_answer",
]

END = "<|im_end|>"
THINK = "<think>"
THINK_END = "</think>"
SECTION_BEGIN = "<|tool_calls_section_begin|>"
SECTION_END = "<|tool_calls_section_end|>"
CALL_BEGIN = "<|tool_call_begin|>"
ARGUMENT_BEGIN = "<|tool_call_argument_begin|>"
CALL_END = "<|tool_call_end|>"


class Thinking(Enum):
    """Whether reasoning comes before the answer."""

    NEVER = "never"
    MAY = "may"
    """The answer may begin with `<think>`."""
    MUST = "must"
    """It has to."""
    INSIDE = "inside"
    """The prompt ends inside of the reasoning."""


@dataclass(frozen=True)
class AnswerRule:
    """What one answer may be."""

    tools: tuple[ToolSpec, ...] = ()
    choice: Literal["auto", "none", "required"] | str = "auto"
    """`required`: the answer is a tool section; anything else: the name of the only tool."""
    max_calls: int | None = None
    first_call_index: int = 0
    """Tool calls in the conversation so far."""
    answer_schema: Mapping[str, Any] | Literal[True] | None = None
    """The visible answer is JSON of this schema instead of text; True: any object."""
    thinking: Thinking | bool = Thinking.NEVER
    """True is `MAY`, False is `NEVER`."""
    thinking_budget: int | None = None
    """Tokens of reasoning after which it is closed."""


class _Calls(Node):
    """The rest of a tool section after `k` calls."""

    __slots__ = ("k", "section")

    def __init__(self, section: _Section, k: int) -> None:
        super().__init__()
        self.section, self.k = section, k

    @property
    def bound(self) -> int:
        return 1 if self.k else 2 + self.section.words(0).bound

    def _shortest(self) -> tuple[Piece, ...]:
        end = (self.section.end.id,)
        if self.k:
            return end
        return (self.section.begin_call.id, *self.section.words(0).shortest())

    def expand(self) -> Sequence[tuple[Node, ...]]:
        section, found = self.section, list[tuple[Node, ...]]()
        if self.k:
            found.append((section.end,))
        if section.max_calls is None or self.k < section.max_calls:
            found.append((section.begin_call, section.words(self.k)))
        return found


class _Section:
    """The calls that one answer may make."""

    def __init__(self, tools: _Tools, rule: AnswerRule, names: Sequence[str]) -> None:
        ids = tools.vocabulary.specials
        self.begin_call, self.end = Special(ids[CALL_BEGIN]), Special(ids[SECTION_END])
        self._between, self._after = Special(ids[ARGUMENT_BEGIN]), Special(ids[CALL_END])
        self.max_calls = rule.max_calls
        self._tools, self._names, self._first = tools, names, rule.first_call_index
        self._words: dict[int, Words] = {}

    def words(self, k: int) -> Words:
        """Return call `k` from its name on."""
        if k not in self._words:
            tools = self._tools
            calls = {
                f"functions.{name}:{self._first + k}".encode(): (
                    *(self._between, tools.arena.node(Value, tools.shapes[name], 0)),
                    *(self._after, _Calls(self, k + 1)),
                )
                for name in self._names
            }
            texts = sorted(calls)
            self._words[k] = Words(tuple(texts), tuple(calls[text] for text in texts))
        return self._words[k]


class _Tools:
    """Compiled schemas with everything that is computed of them, shared between requests."""

    def __init__(
        self, vocabulary: Vocabulary, tools: Sequence[ToolSpec], schema: Mapping[str, Any] | None
    ) -> None:
        self.vocabulary = vocabulary
        self.arena = Arena()
        self.masks = Masks(self.arena, vocabulary)
        compiler = Compiler(vocabulary)
        self.shapes: dict[str, Shape] = {}
        for i, tool in enumerate(tools):
            path = f"tools[{i}].parameters"
            self.shapes[tool.name] = compiler.compile(tool.parameters, path, arguments=True)
        self.answer = compiler.compile(schema, "schema") if schema is not None else None
        self.warnings = tuple(compiler.warnings)


class Grammar:
    """What an answer may be; shared by any number of answers and threads."""

    def __init__(self, tools: _Tools, plan: Plan) -> None:
        """Take what `compile_answer` made."""
        self._masks, self._plan = tools.masks, plan
        self.warnings = tools.warnings
        """Which keywords of the schemas were simplified, and where."""

    def matcher(self, budget: int) -> Matcher:
        """Start an answer of at most `budget` tokens, the end of the turn included.

        Raises:
            BudgetError: The budget does not hold the shortest answer.
        """
        return Matcher(self._masks, self._plan, budget)


def compile_answer(rule: AnswerRule, vocabulary: Vocabulary) -> Grammar:
    """Make the grammar of an answer.

    Raises:
        SchemaError: A schema is none, cannot be satisfied, is too big, or names what is not here.
        ValueError: The vocabulary lacks a special token, or the rule names an unknown tool.
    """
    schema = {"type": "object"} if rule.answer_schema is True else rule.answer_schema
    used = rule.tools if rule.choice != "none" else ()
    texts = [_text(tool.parameters, f"tools[{i}].parameters") for i, tool in enumerate(used)]
    texts.append("" if schema is None else _text(schema, "schema"))
    key = "\n".join((json.dumps([tool.name for tool in used]), *texts))
    tools = vocabulary.keep_tools(key, lambda: _Tools(vocabulary, used, schema))
    named = rule.choice not in ("auto", "none", "required")
    names = [tool.name for tool in used]
    if named or rule.choice == "required":
        names = [name for name in names if not named or name == rule.choice]
        if not names:
            raise ValueError(f"tool_choice {rule.choice!r} needs a tool that is declared")
        return Grammar(tools, _plan(rule, tools, _section(rule, tools, names), text=False))
    strict = _section(rule, tools, names) if names else ()
    if tools.answer is not None:
        strict = (*strict, *_answer(tools, tools.answer))
    return Grammar(tools, _plan(rule, tools, strict, text=tools.answer is None))


def _text(schema: Any, path: str) -> str:
    """Write a schema out, to tell it from others."""
    try:
        text = json.dumps(schema, default=dict)
    except (RecursionError, ValueError, TypeError) as error:
        raise SchemaError(path, f"is no JSON, or nested too deep: {error}") from error
    if len(text) > MAX_CHARACTERS:
        raise SchemaError(path, f"has more than {MAX_CHARACTERS} characters")
    return text


def _section(rule: AnswerRule, tools: _Tools, names: Sequence[str]) -> State:
    ids, arena = tools.vocabulary.specials, tools.arena
    calls = _Calls(_Section(tools, rule, names), 0)
    nodes = (Special(ids[SECTION_BEGIN]), calls, Special(ids[END]))
    return arena.start(arena.push(nodes, None))


def _answer(tools: _Tools, shape: Shape) -> State:
    ids, arena = tools.vocabulary.specials, tools.arena
    return arena.start(arena.push((arena.node(Value, shape, 0), Special(ids[END])), None))


def _plan(rule: AnswerRule, tools: _Tools, strict: State, text: bool) -> Plan:
    ids = tools.vocabulary.specials
    thinking = rule.thinking
    if isinstance(thinking, bool):
        thinking = Thinking.MAY if thinking else Thinking.NEVER
    begins = {"never": "answer", "may": "maybe", "must": "thinking"}.get(thinking.value, "inside")
    if begins != "answer" and not (THINK in ids and THINK_END in ids):
        begins = "answer"
    think, think_end = ids.get(THINK, -1), ids.get(THINK_END, -1)
    return Plan(text, strict, think, think_end, ids[END], begins, rule.thinking_budget)
