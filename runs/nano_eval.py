"""Measure a model on what it never read: tool calls by greedy decoding, and prose in bits per byte.

In: a model directory and the repository's data. Out: bench/records/nano-quality.json.
From every conversation one assistant turn is drawn, with a call if it has one; the model reads
everything before it and decodes. A call counts when the name is right; the arguments count when
they are the same JSON value, whatever the spelling. A turn without a call is right when the model
does not call either. Nothing constrains the decoding.

    python -m runs.nano_eval --model openk2/assets/nano
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random

from bench import record
from openk2.engine.engine import Engine
from openk2.engine.request import Token
from openk2.engine.runner import TorchRunner
from openk2.model import weights
from openk2.text.parse import StreamParser, assemble
from openk2.text.template import next_call_index, render
from openk2.text.tokenizer import Tokenizer
from openk2.train.quality import bits_per_byte, call_conversations, prose
from openk2.types import Message, Sampling, ToolCall, ToolSpec

MAX_LEN = 2048
ANSWER = 200
PROSE_BYTES = 400_000
SETS = {
    "sgd_test": "human dialogues with tools; 82 % use a service that training never saw",
    "nlu_calls_test": "single utterances; their functions were trained on, the utterances were not",
    "copy_tasks_unseen": "made requests whose word values the training's made requests never use",
    "copy_calls_unseen": "the same with at most two tools, declared without descriptions",
}


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation cut before a turn that calls tools."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    gold: tuple[ToolCall, ...]


@dataclass(slots=True)
class Score:
    """Counts over questions; those after `questions` are of turns with a call."""

    asked: int = 0
    without_call: int = 0
    rightly_silent: int = 0
    questions: int = 0
    any_call: int = 0
    valid_json: int = 0
    name: int = 0
    both: int = 0
    with_arguments: int = 0
    both_with_arguments: int = 0
    samples: list[str] = field(default_factory=list)


def questions(data: Path, name: str, seed: int) -> Iterator[Question]:
    """Yield one question per conversation: a turn with a call where there is one."""
    for conversation in call_conversations(data, name):
        messages = conversation.messages
        assistant = [i for i, m in enumerate(messages) if m.role == "assistant"]
        calling = [i for i in assistant if messages[i].tool_calls]
        at = Random(f"{seed}/{conversation.key}").choice(calling or assistant)
        yield Question(messages[:at], conversation.tools, messages[at].tool_calls)


def answers(engine: Engine, prompts: list[list[int]], max_tokens: int) -> list[list[Token]]:
    """Decode all prompts greedily, many at a time; a failure is an empty answer."""
    sampling = Sampling(temperature=0, max_tokens=max_tokens)
    waiting = list(enumerate(prompts))
    place: dict[int, int] = {}
    found: list[list[Token]] = [[] for _ in prompts]
    while waiting or engine.busy:
        while waiting and engine.waiting + engine.running < 16:
            index, prompt = waiting.pop(0)
            place[engine.submit(prompt, sampling)] = index
        for output in engine.step():
            if isinstance(output, Token):
                found[place[output.request_id]].append(output)
    return found


def same_arguments(gold: ToolCall, given: ToolCall) -> bool:
    """Whether two calls have equal arguments as JSON values."""
    try:
        return canonical(gold.arguments) == canonical(given.arguments)
    except json.JSONDecodeError:
        return False


def canonical(text: str) -> str:
    """Spell a JSON value in one way; unlike Python's `==`, it tells `true` from `1`."""
    return json.dumps(json.loads(text), sort_keys=True)


def is_json(text: str) -> bool:
    """Whether a text is JSON."""
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def grade(score: Score, question: Question, given: tuple[ToolCall, ...]) -> None:
    """Count one answer; with parallel calls all of them must be right, in order."""
    gold = question.gold
    score.asked += 1
    if not gold:
        score.without_call += 1
        score.rightly_silent += not given
        return
    names = [call.name for call in given] == [call.name for call in gold]
    both = names and all(map(same_arguments, gold, given))
    has_arguments = any(json.loads(call.arguments) for call in gold)
    score.questions += 1
    score.any_call += bool(given)
    score.valid_json += bool(given) and all(is_json(call.arguments) for call in given)
    score.name += names
    score.both += both
    score.with_arguments += has_arguments
    score.both_with_arguments += has_arguments and both
    if len(score.samples) < 8:
        said = "; ".join(f"{c.name}({c.arguments})" for c in given) or "no call"
        wanted = "; ".join(f"{c.name}({c.arguments})" for c in gold)
        score.samples.append(f"wanted {wanted} | got {said}")


def summary(score: Score) -> dict[str, object]:
    """Return shares, with the counts they come from."""
    n, m = max(1, score.questions), max(1, score.with_arguments)
    return {
        "turns_without_a_call": score.without_call,
        "rightly_without_a_call": round(score.rightly_silent / max(1, score.without_call), 3),
        "turns_with_a_call": score.questions,
        "called_a_tool": round(score.any_call / n, 3),
        "arguments_are_json_of_calls": round(score.valid_json / max(1, score.any_call), 3),
        "name_right": round(score.name / n, 3),
        "name_and_arguments_right": round(score.both / n, 3),
        "with_arguments": score.with_arguments,
        "name_and_arguments_right_where_there_are_arguments": round(
            score.both_with_arguments / m, 3
        ),
        "samples": score.samples,
    }


def main() -> None:
    """Run all sets and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("openk2/assets/nano"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--limit", type=int, default=300, help="conversations per set")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--name", default="nano-quality", help="of the record")
    options = parser.parse_args()
    tokenizer = Tokenizer.load(options.model)
    model = weights.load(options.model)
    stop_ids = frozenset({tokenizer.im_end})
    engine = Engine(TorchRunner(model), max_batch=16, max_len=MAX_LEN, stop_ids=stop_ids)
    text = prose(options.data, PROSE_BYTES)
    result: dict[str, object] = {
        "wikitext2_test_bits_per_byte": round(bits_per_byte(model, tokenizer, text), 4)
    }
    for name in options.sets:
        asked = list(islice(questions(options.data, name, seed=0), options.limit))
        prompts = [render(q.messages, q.tools, tokenizer) for q in asked]
        kept = [i for i, prompt in enumerate(prompts) if len(prompt) < MAX_LEN - ANSWER]
        score = Score()
        found = answers(engine, [prompts[i] for i in kept], ANSWER)
        for i, tokens in zip(kept, found, strict=True):
            grade(score, asked[i], calls(tokenizer, asked[i], tokens))
        result[name] = {"what": SETS[name], "too_long": len(asked) - len(kept), **summary(score)}
        print(name, json.dumps(result[name], ensure_ascii=False, indent=1), flush=True)
    command = f"python -m runs.nano_eval --model {options.model} --limit {options.limit}"
    if options.sets != list(SETS):
        command += f" --sets {' '.join(options.sets)}"
    print(record.write(options.name, command, result))


def calls(tokenizer: Tokenizer, question: Question, tokens: list[Token]) -> tuple[ToolCall, ...]:
    """Parse an answer as the server does."""
    parser = StreamParser(tokenizer, first_call_index=next_call_index(question.messages))
    cut_off = not tokens or tokens[-1].finish_reason != "stop"
    ids = [token.id for token in (tokens if cut_off else tokens[:-1])]
    events = [*parser.feed(ids), *parser.finish("length" if cut_off else "stop")]
    return assemble(events).tool_calls


if __name__ == "__main__":
    main()
