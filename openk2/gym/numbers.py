"""First steps with numbers: repeat one, find one in a sentence, compare, count on and back.

The smallest models fail at sums; here they succeed often enough to learn from reward.

In: a level. Out: a question with one number as answer, and whether it was given.
Must not know: how a model does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from openk2.gym.answers import number
from openk2.gym.exact import Drawn, Idea, Lang, Puzzle, wrong_numbers
from openk2.gym.problem import Problem

_REPEAT = {
    "en": ("Repeat the number {a}.", "Say {a}.", "Write the number {a}."),
    "zh": ("重复数字{a}。", "请说{a}。", "写出数字{a}。"),
}
_FIND = {
    "en": "{one} has {a} {things}, {two} has {b} {things} and {three} has {c} {things}.\n"
    "How many {things} does {who} have?",
    "zh": "{one}有{a}个{things}，{two}有{b}个{things}，{three}有{c}个{things}。\n"
    "{who}有几个{things}？",
}
_NAMES = {
    "en": ("Anna", "Ben", "Carla", "Dan", "Emma", "Tom"),
    "zh": ("小明", "小红", "小刚", "丽丽", "东东", "芳芳"),
}
_THINGS = {"en": ("apples", "books", "cups", "hats"), "zh": ("苹果", "本子", "杯子", "球")}
_COMPARE = {
    "en": {"most": "Which is larger, {a} or {b}?", "least": "Which is smaller, {a} or {b}?"},
    "zh": {"most": "{a}和{b}哪个大？", "least": "{a}和{b}哪个小？"},
}
_COUNT = {
    "en": {"next": "Which number comes after {a}?", "last": "Which number comes before {a}?"},
    "zh": {"next": "{a}后面的数是几？", "last": "{a}前面的数是几？"},
}


class Numbers(Drawn):
    """Questions with a bare number as answer, as the shipped model was taught to give."""

    name = "numbers"
    about = "Repeat a number, find one of three, compare two, count on; the smallest models' start."
    about_zh = "数的起步：复述、从三个中找一个、比较两个、前后一个数。"
    levels = (1, 2, 3, 4, 5)
    """Compare digits: a guess is right half of the time; repeat a digit, or the one before or after
    it; find a digit among three; as 2 and as 1 with two digits each."""
    max_tokens = 16

    def draw(self, rng: Random, level: int) -> Idea:
        """Draw what is asked, and the numbers."""
        least, largest = (0, 9) if level <= 3 else (10, 99)
        if level == 3:
            fact = " ".join(["find", *map(str, rng.sample(range(1, 10), 3))])
        elif level in (2, 4):
            what = rng.choice(("repeat", "next", "last"))
            fact = f"{what} {rng.randint(least + 1, largest)}"  # 0 has none before it
        else:
            two = rng.sample(range(least, largest + 1), 2)
            fact = " ".join([rng.choice(("most", "least")), *map(str, two)])
        # Which is larger, 3 or 7, gives which is smaller, 7 or 3, away.
        what, *numbers = fact.split()
        key = " ".join(["compare" if what in ("most", "least") else what, *sorted(numbers)])
        return Idea(fact, key)

    def pose(self, fact: str, rng: Random, level: int, lang: Lang) -> Puzzle:
        """Ask."""
        what, *written = fact.split()
        numbers = list(map(int, written))
        a, b, c = (*numbers, 0, 0)[:3]
        match what:
            case "repeat":
                question, answer = rng.choice(_REPEAT[lang]).format(a=a), a
            case "find":
                one, two, three = rng.sample(_NAMES[lang], 3)
                place = rng.randrange(3)
                question = _FIND[lang].format(
                    one=one, two=two, three=three, who=(one, two, three)[place],
                    things=rng.choice(_THINGS[lang]), a=a, b=b, c=c,
                )  # fmt: skip
                answer = numbers[place]
            case "most" | "least":
                question = _COMPARE[lang][what].format(a=a, b=b)
                answer = max(a, b) if what == "most" else min(a, b)
            case _:
                question, answer = _COUNT[lang][what].format(a=a), a + (1 if what == "next" else -1)
        return Puzzle(question, str(answer))

    def accepts(self, problem: Problem, answer: str) -> bool:
        """Compare numbers."""
        return number(answer) == int(problem.meta["answer"])

    def wrongs(self, problem: Problem) -> Sequence[str]:
        """Return neighbours, expressions that are not worked out, and every number there is."""
        return wrong_numbers(problem)
