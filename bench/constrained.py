"""A tool call under its grammar beside as many tokens without: what does being strict cost?

In: nothing; the shipped model and a random one of its shape. Out: a table, and
bench/records/constrained.json. Both ways decode on one engine from the same prompts, one after the
other in every round: under the grammar the whole answer (compiled before, as for any second
request with these tools), and without it exactly as many tokens. Tokens that the grammar writes by
itself cost nothing to draw; those that it has to decide cost a mask.

    python -m bench.constrained
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from bench import record
from openk2.cli.tree import SHIPPED_MODEL, share_cores
from openk2.engine.engine import Engine
from openk2.engine.loading import load_engine
from openk2.engine.request import Failure
from openk2.grammar.answer import AnswerRule, Grammar, compile_answer
from openk2.grammar.vocabulary import Vocabulary
from openk2.model import weights
from openk2.model.config import preset
from openk2.model.transformer import Transformer
from openk2.server.local.strict import vocabulary_of
from openk2.text.template import render
from openk2.text.tokenizer import Tokenizer
from openk2.types import Message, Sampling, ToolSpec

TOOLS = (
    ToolSpec(
        "get_weather",
        "Get the weather of a city on a day",
        {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 24},
                "day": {"type": "string", "enum": ["today", "tomorrow", "Friday"]},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "day"],
        },
    ),
    ToolSpec(
        "book_table",
        "Book a table in a restaurant",
        {
            "type": "object",
            "properties": {
                "restaurant": {"type": "string", "maxLength": 40},
                "people": {"type": "integer", "minimum": 1, "maximum": 20},
                "outside": {"type": "boolean"},
                "wishes": {
                    "type": "array",
                    "items": {"type": "string", "maxLength": 20},
                    "maxItems": 3,
                },
            },
            "required": ["restaurant", "people"],
        },
    ),
)
QUESTIONS = (
    "What is the weather in Berlin on Friday?",
    "Book a table for four at Luigi's, outside please.",
    "Is it going to rain in Paris tomorrow?",
    "A table for two at the Golden Dragon, by the window.",
)
LIMIT = 120


def main() -> None:
    """Measure both models, print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    share_cores()
    tokenizer = Tokenizer.load(SHIPPED_MODEL)
    with tempfile.TemporaryDirectory() as scratch:
        models = {"shipped nano": SHIPPED_MODEL, "random weights": _random(Path(scratch))}
        result: dict[str, Any] = {"rounds": options.rounds}
        for name, directory in models.items():
            result[name] = measure(directory, tokenizer, options.rounds)
            row = result[name]
            print(
                f"{name:16s} {row['strict_us_per_token']:8.0f} us a token under the grammar, "
                f"{row['free_us_per_token']:8.0f} without; {row['jumped_share']:.0%} of the "
                f"tokens were certain; ratio {row['strict_over_free']:.2f}"
            )
    print(
        record.write(
            "constrained", f"python -m bench.constrained --rounds {options.rounds}", result
        )
    )


def measure(directory: Path, tokenizer: Tokenizer, rounds: int) -> dict[str, Any]:
    """Time the answers to all questions, both ways, in every round."""
    engine = load_engine(
        directory,
        stop_ids=frozenset((tokenizer.im_end,)),
        vocab_size=tokenizer.vocab_size,
        max_batch=1,
        threads=1,
    ).engine
    vocabulary = vocabulary_of(tokenizer)
    assert vocabulary is not None
    prompts = [render([Message("user", q)], TOOLS, tokenizer) for q in QUESTIONS]
    strict: list[float] = []
    free: list[float] = []
    jumped = written = 0
    for turn in range(rounds + 1):
        for prompt in prompts:
            took, tokens, certain = _strict(engine, vocabulary, prompt, turn)
            without = _free(engine, prompt, turn, tokens, tokenizer.im_end)
            if turn:  # the first round fills caches
                strict.append(took / tokens)
                free.append(without / tokens)
                jumped, written = jumped + certain, written + tokens
    ratios = [a / b for a, b in zip(strict, free, strict=True)]
    return {
        "strict_us_per_token": statistics.median(strict) * 1e6,
        "free_us_per_token": statistics.median(free) * 1e6,
        "strict_over_free": statistics.median(ratios),
        "jumped_share": jumped / written,
        "tokens": written,
    }


def _strict(
    engine: Engine, vocabulary: Vocabulary, prompt: list[int], seed: int
) -> tuple[float, int, int]:
    """Answer under the grammar; return seconds after the first token, tokens, certain ones."""
    rule = AnswerRule(tools=TOOLS, choice="required", max_calls=1)
    grammar: Grammar = compile_answer(rule, vocabulary)
    sampling = Sampling(temperature=1.0, seed=seed, max_tokens=LIMIT)
    return _run(engine, prompt, sampling, grammar.matcher(LIMIT))


def _free(engine: Engine, prompt: list[int], seed: int, tokens: int, end: int) -> float:
    ends = ((end, -100.0),)
    sampling = Sampling(temperature=1.0, seed=seed, max_tokens=tokens, logit_bias=ends)
    return _run(engine, prompt, sampling, None)[0]


def _run(
    engine: Engine, prompt: list[int], sampling: Sampling, mask: Any
) -> tuple[float, int, int]:
    engine.submit(prompt, sampling, mask)
    tokens = certain = 0
    began = 0.0
    while engine.busy:
        outputs = engine.step()
        if outputs and not began:
            began = time.thread_time()  # reading the prompt is the same both ways
        for output in outputs:
            if isinstance(output, Failure):
                raise output.error
            certain += output.logprob == 0.0
        tokens += len(outputs)
    return time.thread_time() - began, tokens, certain


def _random(root: Path) -> Path:
    torch.manual_seed(0)
    model = Transformer(preset("nano"))
    model.reset_parameters(torch.Generator().manual_seed(0))
    weights.save(model, root)
    Tokenizer.load(SHIPPED_MODEL).save(root)
    return root


if __name__ == "__main__":
    main()
