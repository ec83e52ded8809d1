"""Chat packs: from rows of question, answer and small talk to conversations without tools.

In: the folder `data/`. Out: conversations, one converter per pack.
Must not know: tokens, tools, how much of each pack a training run uses.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from openk2.text.conversations import Conversation, trimmed
from openk2.text.corpus import held_out, normalised, read_rows
from openk2.types import Message

QUESTIONS_PER_PASSAGE = 4
SQL_SHARE = 0.25
"""A quarter of the 20 000 SQL questions: they all have one shape."""


def _rows(data: Path, name: str) -> Iterator[dict[str, Any]]:
    return read_rows(data / "instruct" / f"{name}.jsonl.zst")


def _chat(source: str, key: str, *turns: str, system: str = "") -> Conversation:
    messages = [Message("system", system)] if system else []
    for index, turn in enumerate(turns):
        messages.append(Message("assistant" if index % 2 else "user", turn.strip()))
    return Conversation(tuple(messages), (), source, key)


def _recorded(source: str, key: str, row: Mapping[str, Any], system: str = "") -> Conversation:
    head = [Message("system", system)] if system else []
    turns = [Message(m["role"], m["content"].strip()) for m in row["messages"]]
    return Conversation(trimmed([*head, *turns]), (), source, key)


def identity(data: Path) -> Iterator[Conversation]:
    """Yield the handwritten chats about who the shipped model is, greetings and plain facts."""
    for row in read_rows(data / "instruct" / "identity.jsonl"):
        yield _recorded("identity", row["messages"][0]["content"], row)


def general_seed(data: Path) -> Iterator[Conversation]:
    """Yield short instructions and questions, without those about another bot's life."""
    about_the_bot = re.compile(
        r"\b(are you|do you|you are|have you|did you|your|chatterbot|chat ?bot|alice|robot)\b|你",
        re.IGNORECASE,
    )
    for row in _rows(data, "general_seed_instructions"):
        text = " ".join(m["content"] for m in row["messages"])
        if row["source"] == "chatterbot" and about_the_bot.search(text):
            continue
        yield _recorded("general_seed", row["messages"][0]["content"], row)


def open_chat(data: Path) -> Iterator[Conversation]:
    """Yield English small talk; a persona becomes the system message."""
    for row in _rows(data, "open_chat_en"):
        text = " ".join(m["content"] for m in row["messages"])
        if "[user" in text.lower():
            continue
        persona = " ".join(row.get("persona", ()))
        system = f"You are chatting with a friend. About you: {persona}" if persona else ""
        yield _recorded("open_chat", persona or text[:80], row, system)


def kdconv(data: Path) -> Iterator[Conversation]:
    """Yield Chinese chats about films, music and travel."""
    for row in _rows(data, "kdconv_zh_chat"):
        yield _recorded("kdconv", row["messages"][0]["content"], row)


def fairytaleqa(data: Path) -> Iterator[Conversation]:
    """Yield a passage of a children's story and questions about it.

    The key is that of the whole story in pre-training, so that a split holds out both.
    """
    for context, rows in groupby(_rows(data, "fairytaleqa_train"), lambda row: row["context"]):
        group = list(rows)
        yield from _reading("fairytaleqa", normalised(group[0]["story"]), context, group)


def zh_reading_qa(data: Path) -> Iterator[Conversation]:
    """Yield a Chinese passage and questions about it."""
    for context, rows in groupby(_rows(data, "zh_reading_qa"), lambda row: row["context"]):
        group = list(rows)
        yield from _reading("zh_reading_qa", normalised(group[0]["title"]), context, group)


def _reading(
    source: str, key: str, context: str, rows: list[dict[str, Any]]
) -> Iterator[Conversation]:
    for start in range(0, len(rows), QUESTIONS_PER_PASSAGE):
        turns: list[str] = []
        for row in rows[start : start + QUESTIONS_PER_PASSAGE]:
            answer = row["answer"].strip()
            turns += [row["question"], answer[:1].upper() + answer[1:]]
        turns[0] = f"{context}\n\n{turns[0]}"
        yield _chat(source, key, *turns)


def math_word_problems(data: Path) -> Iterator[Conversation]:
    """Yield word problems with worked answers that end in `The answer is N.`."""
    for row in _rows(data, "math_word_problems"):
        steps, _, result = row["answer"].rpartition("\n#### ")
        if steps.startswith("prefix equation: "):
            steps = f"{_infix(steps.removeprefix('prefix equation: ').split())} = {result}"
        # `<<48/2=24>>` marks were meant for a calculator; SVAMP writes whole numbers as `8.0`.
        steps = re.sub(r"<<.*?>>", "", steps)
        steps, result = (re.sub(r"(\d)\.0\b", r"\1", text) for text in (steps, result))
        answer = f"{steps}\nThe answer is {result}."
        yield _chat("math_word_problems", row["question"], row["question"], answer)


def _infix(prefix: list[str]) -> str:
    stack: list[str] = []
    for item in reversed(prefix):
        if item in {"+", "-", "*", "/"} and len(stack) >= 2:
            left, right = stack.pop(), stack.pop()
            stack.append(f"({left} {item} {right})" if stack else f"{left} {item} {right}")
        else:
            stack.append(item)
    return " ".join(reversed(stack))


def tal_scq(data: Path) -> Iterator[Conversation]:
    """Yield primary-school multiple choice in English and Chinese."""
    for row in _rows(data, "tal_scq_math_en_zh"):
        options = "\n".join(f"{letter}. {text}" for letter, text in row["options"].items())
        ending = "答案：" if row["lang"] == "zh" else "Answer: "
        answer = f"{row['solution'].strip()}\n{ending}{row['answer']}"
        yield _chat("tal_scq", row["problem"], f"{row['problem'].strip()}\n{options}", answer)


def mbpp(data: Path) -> Iterator[Conversation]:
    """Yield short Python tasks and their solutions as code blocks."""
    for row in _rows(data, "mbpp_train"):
        header = re.search(r"^def .*:$", row["prompt"], re.MULTILINE)
        if header is None:
            continue
        solution = row["canonical_solution"].rstrip().replace("\t", "    ")
        code = f"```python\n{header.group()}\n{solution}\n```"
        yield _chat("mbpp", row["task_id"], f"{row['description']} Use Python.", code)


_COMMAND_REQUESTS = {
    "en": ("Give me a shell command: {task}.", "{task}. Which {tool} command does that?",
           "How do I do this with {tool} on the command line? {task}."),
    "zh": ("请给出 shell 命令：{task}。", "怎样用 {tool} 做到：{task}？",
           "{tool}：{task}，命令怎么写？"),
}  # fmt: skip


def nl2command(data: Path) -> Iterator[Conversation]:
    """Yield descriptions of a task and the shell command that does it."""
    for row in _rows(data, "nl2command_tldr"):
        task = row["task"].rstrip(".。:：")
        request = random.Random(task).choice(_COMMAND_REQUESTS[row["lang"]])
        if "{tool}" not in request:
            task = f"{task} ({row['tool']})"
        filled = request.format(task=task, tool=row["tool"])
        yield _chat("nl2command", row["tool"], filled, f"`{row['command']}`")


def nl2sql(data: Path) -> Iterator[Conversation]:
    """Yield a sample of questions about one table and their SQL."""
    for row in _rows(data, "nl2sql_wikisql_20k"):
        if not held_out(f"sample/{row['question']}", SQL_SHARE):
            continue
        sql = row["sql"].replace("TABLE AS TABLEalias0", "data").replace("TABLEalias0.", "")
        sql = re.sub(r"(\S+)_FIELD\b", lambda m: m.group(1).lower(), sql).replace(" ;", ";")
        yield _chat("nl2sql", row["question"], f"Write SQL: {row['question']}", sql)


_SIMPLER = ("Say this in simpler words: {}", "Make this sentence easier to read: {}",
            "Simplify: {}", "{}\n\nCan you write that more simply?")  # fmt: skip


def simplify_pairs(data: Path) -> Iterator[Conversation]:
    """Yield a hard sentence and an easier one."""
    for row in _rows(data, "simplify_pairs_en"):
        request = random.Random(row["complex"]).choice(_SIMPLER).format(row["complex"])
        yield _chat("simplify_pairs", row["complex"], request, row["simple"])


CHAT_PACKS: Mapping[str, Callable[[Path], Iterator[Conversation]]] = {
    convert.__name__: convert
    for convert in (
        identity, general_seed, open_chat, kdconv, fairytaleqa, zh_reading_qa, math_word_problems,
        tal_scq, mbpp, nl2command, nl2sql, simplify_pairs,
    )
}  # fmt: skip
"""Pack name to converter; see `openk2.text.packs`."""
