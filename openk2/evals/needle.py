"""A needle in a context: is a fact found wherever it stands in a long text?

In: nothing but a seed. Out: long texts with one fact that is asked for, at several depths; whether
the answer has it.
Must not know: how long a model's window is, before a question is put to it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Literal

from openk2.agent.model import ChatModel, ModelError, ModelRequest
from openk2.evals.benchmark import Answer, AskSettings, Benchmark, Case, Scores, ask_once
from openk2.types import Message

Language = Literal["en", "zh"]

LENGTHS = tuple(1 << power for power in range(9, 17))
"""Tokens of the texts, 512 to 65,536, estimated: English has about four characters to a token,
Chinese about three to two."""
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where the needle is: 0 the first sentence, 1 the last."""
RIVALS = 4
"""Facts of the same form about other towns, in the harder variant."""
SEED = 17
"""Draws hay, towns and numbers. Another number makes another benchmark."""
_ANSWER_TOKENS = 32
_CHARACTERS = {"en": 4.0, "zh": 1.5}
_TOWNS: dict[Language, tuple[str, ...]] = {
    "en": ("Oslo", "Lima", "Quito", "Accra", "Hanoi", "Tunis", "Perth", "Turin", "Malmo", "Osaka"),
    "zh": ("苏州", "洛阳", "大理", "敦煌", "泉州", "开封", "昆明", "宁波", "拉萨", "桂林"),
}
_NEEDLE = {"en": "The code of {town} is {code}.", "zh": "{town}的编码是{code}。"}
_QUESTION = {
    "en": "Read this text.\n\n{text}\n\nWhat is the code of {town}? Answer with the number alone.",
    "zh": "请阅读下文。\n\n{text}\n\n{town}的编码是多少？只回答数字。",
}
_HAY: dict[Language, tuple[tuple[str, ...], ...]] = {
    "en": (
        ("The baker", "A neighbour", "My aunt", "The old gardener", "Our teacher", "The driver"),
        ("carried", "painted", "repaired", "looked for", "sold", "cleaned", "talked about"),
        ("a wooden chair", "the green door", "some apples", "a small boat", "the garden wall"),
        ("in the morning.", "before the rain came.", "while the children slept.",
         "after a long walk.", "on the way to the station."),
    ),
    "zh": (
        ("面包师", "邻居", "姑姑", "老园丁", "我们的老师", "司机"),
        ("在清晨", "在下雨之前", "趁孩子睡着时", "散步之后", "去车站的路上"),
        ("搬走了", "粉刷了", "修好了", "寻找", "卖掉了", "擦干净了", "谈起"),
        ("一把木椅。", "那扇绿门。", "几个苹果。", "一只小船。", "花园的围墙。"),
    ),
}  # fmt: skip


def _cases(data: Path) -> Iterator[Case]:
    del data
    languages: tuple[Language, ...] = ("en", "zh")
    for language in languages:
        for rivals in (0, RIVALS):
            for length in LENGTHS:
                for depth in DEPTHS:
                    yield _case(language, rivals, length, depth)


def _case(language: Language, rivals: int, length: int, depth: float) -> Case:
    name = f"{language}-{rivals}-{length}-{depth:g}"
    random = Random(f"{SEED}/{name}")
    towns = random.sample(_TOWNS[language], 1 + rivals)
    codes = [str(random.randrange(10_000, 100_000)) for _ in towns]
    facts = [
        _NEEDLE[language].format(town=town, code=code)
        for town, code in zip(towns, codes, strict=True)
    ]
    hay = _hay(random, language, length * _CHARACTERS[language] - sum(map(len, facts)))
    rivals_at = [random.randrange(1, len(hay)) for _ in range(rivals)]
    places = [round(depth * len(hay)), *rivals_at]
    # From the end, so that no insertion moves the place of another.
    for place, fact in sorted(zip(places, facts, strict=True), reverse=True):
        hay.insert(place, fact)
    text = ("" if language == "zh" else " ").join(hay)
    words = _QUESTION[language].format(text=text, town=towns[0])
    group = f"{language} {'among rivals' if rivals else 'alone'} {length}"
    return Case(f"needle/{name}", group, (Message("user", words),), gold=codes[0])


def _hay(random: Random, language: Language, characters: float) -> list[str]:
    joint = "" if language == "zh" else " "
    sentences: list[str] = []
    while characters > 0:
        sentences.append(joint.join(random.choice(part) for part in _HAY[language]))
        characters -= len(sentences[-1]) + len(joint)
    return sentences


async def _answer(case: Case, model: ChatModel, settings: AskSettings) -> Answer:
    tokens = await model.count_tokens(ModelRequest(case.messages))
    if tokens + _ANSWER_TOKENS > model.context_window:
        raise ModelError(
            f"{tokens:,} tokens do not fit the {model.context_window:,} of {model.name}", "too_long"
        )
    return await ask_once(_ANSWER_TOKENS)(case, model, settings)


def _score(case: Case, answer: Answer) -> Scores:
    numbers = re.findall(r"\d+", unicodedata.normalize("NFKC", answer.text).replace(",", ""))
    return {"found": float(numbers[:1] == [case.gold])}


NEEDLE = Benchmark(
    name="needle",
    about="One fact in a text of 512 to 65,536 tokens, at five depths, alone or among rivals.",
    about_zh="在 512 至 65536 词元的长文中找出一个事实，五种深度，有无相似干扰。",
    licence="Apache-2.0",
    source="openk2/evals/needle.py",
    packs=(),
    headline="found",
    cases=_cases,
    score=_score,
    answer=_answer,
    failed={"found": 0.0},
)
BENCHMARKS = (NEEDLE,)
