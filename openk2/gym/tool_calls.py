"""One request, two to four tools: exactly the right call, or none where none fits.

Half of the requests come from the worlds (one wish that one call brings about), half from the copy
tasks, whose values are drawn so evenly that only reading them from the request can be right. In
the held-out half, worlds and words are those that practice never sees.

In: a seed. Out: requests with tools; scores of the first turn.
Must not know: what a tool does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from random import Random

from openk2.envs.catalogue import HELD_OUT, domain, names
from openk2.evals.decisions import decoded_all
from openk2.evals.exact_match import entries, overlap, same_calls
from openk2.gym.honesty import repeats_itself, words
from openk2.gym.problem import Family, Problem
from openk2.gym.world_draw import WorldDraw, problem_of
from openk2.text.copy_tasks import copy_conversation
from openk2.text.copy_values import WordBank, load_word_bank
from openk2.types import Message, ToolCall, ToolSpec

_TOKENS = 160
_UNABLE = re.compile(
    r"\b(?:can(?:'|’)?t|cannot|can not|unable|no tools?|none of|not able|isn(?:'|’)t possible"
    r"|don(?:'|’)t have|do not have|outside)\b|没有|无法|不能|做不到|办不到|超出",
    re.IGNORECASE,
)
_CLAIMS = re.compile(
    r"\b(?:done|completed|successful\w*|finished)\b|\bI(?:'ve|’ve| have) (?!no\b)\w+ed\b"
    r"|已经?(?:完成|办好|处理|为您)|[{}<>?？]",
    re.IGNORECASE,
)
_LONGEST_REFUSAL = 40
"""Words."""
_DECLINES: Mapping[str, str] = {
    "en": "I'm sorry, I have no tool for that.",
    "zh": "抱歉，我没有可以做这件事的工具。",
}


@dataclass(frozen=True)
class ToolCalls(Family):
    """Make exactly the call that a request asks for."""

    data: Path = Path("data")
    """The folder of data packs; the copy tasks' words are read from it."""
    copied: float = 0.5
    """Share of requests from the copy tasks; 0 reads nothing from disk."""
    irrelevant: float = 0.15
    """Share of requests that none of the tools serves."""
    name_credit: float = 0.0
    """Reward of one call of the right tool whose arguments are not all right, times the share of
    arguments that are: 0 pays for the exact call alone. A little helps a model that never gets
    there; it cannot be had by naming several tools."""
    draw: WorldDraw = field(default_factory=lambda: WorldDraw(most_calls=1))
    """The tasks of the worlds."""
    name: str = "tool_calls"
    about: str = "One request, two to four tools: exactly the right call, or none."
    about_zh: str = "单句请求与二到四个工具：给出完全正确的调用，或不调用。"

    def problems(self, seed: int, *, held_out: bool = False) -> Iterator[Problem]:
        """Yield problems without end; a split keeps domains, and the words of values, apart."""
        side = "held_out" if held_out else "practice"
        name = f"{self.name}/{seed}/{side}"
        wishes = self.draw.tasks(name, held_out=held_out)
        number = 0
        while True:
            number += 1
            rng = Random(f"{name}/{number}")
            if rng.random() < self.copied:
                yield self._copied(f"{name}/copy-{number}", rng, held_out=held_out)
            else:
                problem = problem_of(next(wishes), self.name)
                problem = _plain(problem)
                yield self._misplaced(problem, rng) if rng.random() < self.irrelevant else problem

    def score(self, problem: Problem, messages: Sequence[Message]) -> Mapping[str, float]:
        """Score the only turn.

        Returns:
            `reward`; `name`: whether it is one call of the right tool, or rightly none;
            `arguments`: the share of arguments that are right, of those that are given or needed.
        """
        one = messages[0] if len(messages) == 1 else Message("user", "-")
        gold = [ToolCall("", name, arguments) for name, arguments in problem.meta["calls"]]
        if one.role != "assistant":
            return {"reward": 0.0, "name": 0.0, "arguments": 0.0}
        if not gold:
            echo = one.content.strip() in problem.messages[-1].content
            right = float(not one.tool_calls and not echo and _declines(one.content))
            return {"reward": right, "name": float(not one.tool_calls), "arguments": right}
        named = [call.name for call in one.tool_calls] == [call.name for call in gold]
        calls, wanted = decoded_all(one.tool_calls), decoded_all(gold)
        if not named or calls is None or wanted is None:
            return {"reward": 0.0, "name": float(named), "arguments": 0.0}
        both, more, less = overlap(entries(calls), entries(wanted))
        share = both / (both + more + less) if both + more + less else 1.0
        exact = same_calls(calls, wanted)
        reward = 1.0 if exact else self.name_credit * share
        return {"reward": reward, "name": 1.0, "arguments": share}

    def gold(self, problem: Problem) -> tuple[Message, ...]:
        """Return the call, or words that decline."""
        calls = tuple(
            ToolCall(f"functions.{name}:{number}", name, arguments)
            for number, (name, arguments) in enumerate(problem.meta["calls"])
        )
        said = "" if calls else _DECLINES[problem.meta["lang"]]
        return (Message("assistant", said, tool_calls=calls),)

    def hacks(self, problem: Problem) -> Sequence[str]:
        """Return calls that are only text, claims, and refusals where there is a tool."""
        tool = problem.tools[0].name
        wanted = problem.meta["calls"]
        name, arguments = wanted[0] if wanted else (tool, "{}")
        shown = json.dumps({"name": name, "arguments": json.loads(arguments)}, ensure_ascii=False)
        texts = (
            shown,
            f"```json\n{shown}\n```",
            f"<tool_call>{shown}</tool_call>",
            f"Done, I have called {name}.",
            "我已经为您完成。",
            problem.messages[-1].content,
            "Sorry " * 30,
        )
        return (*texts, *_DECLINES.values()) if wanted else texts

    def _copied(self, key: str, rng: Random, *, held_out: bool) -> Problem:
        bank = _bank(self.data, held_out)
        irrelevant = rng.random() < self.irrelevant
        while True:
            talk = copy_conversation(rng, bank, key, short=rng.random() < 0.5)
            first, *rest = talk.messages
            calls = rest[0].tool_calls
            fewest, most = self.draw.fewest_tools, self.draw.most_tools
            fits = fewest <= len(talk.tools) <= most and len(calls) == (not irrelevant)
            if fits and (calls or _declines(rest[0].content)):
                break
        lang = "zh" if re.search(r"[\u3400-\u9fff]", first.content) else "en"
        meta = {
            "calls": [[call.name, call.arguments] for call in calls],
            "level": 1 if irrelevant else 2,
            "lang": lang,
        }
        return Problem(key, self.name, key, (first,), talk.tools, _TOKENS, meta)

    def _misplaced(self, problem: Problem, rng: Random) -> Problem:
        """Keep the request, and offer tools of another operator on the same side."""
        unseen = problem.key in HELD_OUT
        others = [one for one in names() if (one in HELD_OUT) == unseen and one != problem.key]
        other = domain(rng.choice(others))
        tools = rng.sample(other.tools, min(len(problem.tools), len(other.tools)))
        specs: tuple[ToolSpec, ...] = tuple(tool.spec(problem.meta["lang"]) for tool in tools)
        request = problem.messages[-1:]
        meta = {**problem.meta, "calls": [], "level": 1}
        return replace(problem, messages=request, tools=specs, meta=meta)


def _plain(problem: Problem) -> Problem:
    """Drop what only an episode needs."""
    meta = {name: problem.meta[name] for name in ("calls", "level", "lang")}
    return replace(problem, meta=meta, max_tokens=_TOKENS)


def _declines(text: str) -> bool:
    """Tell whether a text says that it cannot be done, and does not claim that it was."""
    short = 3 <= len(words(text)) <= _LONGEST_REFUSAL
    unable = _UNABLE.search(text) is not None and _CLAIMS.search(text) is None
    return short and unable and not repeats_itself(text)


@cache
def _bank(data: Path, unseen: bool) -> WordBank:
    return load_word_bank(data, unseen=unseen)
