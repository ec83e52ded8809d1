"""Short made-up word problems, in English and in Chinese.

In: a level. Out: a story with one question, and whether a number is its answer.
Must not know: how a number is found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from openk2.gym.answers import number
from openk2.gym.exact import Drawn, Idea, Lang, Puzzle, wrong_numbers
from openk2.gym.problem import Problem

_ASKED = {
    "en": "{story}\nEnd with a line `Answer: ` and the number alone.",
    "zh": "{story}\n最后一行写“答案：”和得数，只写数字。",
}
_NAMES = {
    "en": ("Anna", "Ben", "Clara", "David", "Emma", "Felix"),
    "zh": ("小明", "小红", "小刚", "丽丽", "东东", "芳芳"),
}
_THINGS = {
    "en": ("apples", "books", "stamps", "pencils", "shells", "cards"),
    "zh": ("苹果", "本子", "贝壳", "铅笔", "气球", "橘子"),
}


@dataclass(frozen=True, slots=True)
class Story:
    """A text with places for two names, a thing and up to three numbers."""

    en: str
    zh: str
    answer: Callable[[int, int, int], int]
    """Of the numbers; a story with a result below 0 is not told."""


_STORIES: Mapping[int, tuple[Story, ...]] = {
    1: (
        Story(
            "{one} has {a} {things} and gets {b} more. How many {things} does {one} have now?",
            "{one}有{a}个{things}，又得到{b}个。{one}现在有多少个{things}？",
            lambda a, b, c: a + b,
        ),
        Story(
            "{one} has {a} {things} and gives {b} to {two}. How many {things} are left?",
            "{one}有{a}个{things}，给了{two}{b}个。还剩多少个{things}？",
            lambda a, b, c: a - b,
        ),
    ),
    2: (
        Story(
            "{one} has {a} {things}. {two} has {b} more than {one}. "
            "How many {things} does {two} have?",
            "{one}有{a}个{things}，{two}比{one}多{b}个。{two}有多少个{things}？",
            lambda a, b, c: a + b,
        ),
        Story(
            "{one} has {a} {things}, {two} has {b}. How many more does {one} have?",
            "{one}有{a}个{things}，{two}有{b}个。{one}比{two}多多少个？",
            lambda a, b, c: a - b,
        ),
        Story(
            "There are {a} boxes with {b} {things} in each. How many {things} are there?",
            "有{a}个盒子，每个盒子里有{b}个{things}。一共有多少个{things}？",
            lambda a, b, c: a * b,
        ),
    ),
    3: (
        Story(
            "{one} buys {a} boxes with {b} {things} in each and finds {c} more. "
            "How many {things} does {one} have?",
            "{one}买了{a}盒{things}，每盒{b}个，又找到{c}个。{one}一共有多少个{things}？",
            lambda a, b, c: a * b + c,
        ),
        Story(
            "{one} had {a} {things}, gave {b} to {two} and then got {c}. "
            "How many {things} does {one} have now?",
            "{one}原有{a}个{things}，给了{two}{b}个，后来又得到{c}个。{one}现在有多少个{things}？",
            lambda a, b, c: a - b + c if a >= b else -1,
        ),
        Story(
            "{one} has {a} {things} and {two} has {b} more than {one}. "
            "How many {things} do they have together?",
            "{one}有{a}个{things}，{two}比{one}多{b}个。他们一共有多少个{things}？",
            lambda a, b, c: 2 * a + b,
        ),
        Story(
            "{a} friends have {b} {things} each. They give {c} away. How many {things} are left?",
            "{a}个朋友每人有{b}个{things}，他们送出{c}个。还剩多少个{things}？",
            lambda a, b, c: a * b - c,
        ),
    ),
}
_LARGEST = {1: 10, 2: 12, 3: 20}


class Stories(Drawn):
    """One step with small numbers, one step, two steps."""

    name = "stories"
    about = "Made-up word problems with one or two steps, in English and Chinese."
    about_zh = "自编的一两步应用题，中英文。"
    levels = (1, 2, 3)
    """One step up to 10; one step up to 12; two steps up to 20."""
    max_tokens = 128

    def draw(self, rng: Random, level: int) -> Idea:
        """Draw a story's number and its numbers."""
        while True:
            which = rng.randrange(len(_STORIES[level]))
            story = _STORIES[level][which]
            a, b, c = (rng.randint(2, _LARGEST[level]) for _ in "abc")
            c = c if "{c}" in story.en else 0  # or stories that read the same would differ by it
            if story.answer(a, b, c) >= 0:
                fact = f"{level} {which} {a} {b} {c}"
                return Idea(fact, fact)

    def pose(self, fact: str, rng: Random, level: int, lang: Lang) -> Puzzle:
        """Tell the story."""
        _, which, a, b, c = map(int, fact.split())
        story = _STORIES[level][which]
        one, two = rng.sample(_NAMES[lang], 2)
        text = (story.en if lang == "en" else story.zh).format(
            one=one, two=two, things=rng.choice(_THINGS[lang]), a=a, b=b, c=c
        )
        return Puzzle(_ASKED[lang].format(story=text), str(story.answer(a, b, c)))

    def accepts(self, problem: Problem, answer: str) -> bool:
        """Compare numbers."""
        return number(answer) == int(problem.meta["answer"])

    def wrongs(self, problem: Problem) -> Sequence[str]:
        """Return neighbours, expressions that are not worked out, and every number there is."""
        return wrong_numbers(problem)
