"""Questions over a table that is in the question.

In: a level. Out: a table, a question, and whether a name or number is the answer.
Must not know: how a model reads tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from openk2.gym.answers import number, sentence
from openk2.gym.exact import Drawn, Idea, Lang, Puzzle
from openk2.gym.problem import Problem

_ASKED = {
    "en": "{table}\n\n{question} End with a line `Answer: ` and the {kind} alone.",
    "zh": "{table}\n\n{question}最后一行写“答案：”，后面只写{kind}。",
}
_KINDS = {"en": ("name", "number"), "zh": ("名称", "数字")}


@dataclass(frozen=True, slots=True)
class Theme:
    """What a table can be about, in one language."""

    head: str
    """Of the first column, with the names in it."""
    names: str
    """Ten, with spaces between them."""
    columns: tuple[str, ...]
    """Of whole numbers."""


_THEMES: Mapping[Lang, tuple[Theme, ...]] = {
    "en": (
        Theme("city", "Oslo Lima Cairo Perth Quito Turin Hanoi Accra Busan Leeds",
              ("buses", "parks", "schools", "museums")),
        Theme("fruit", "apple pear plum fig lemon mango grape peach melon cherry",
              ("price", "stock", "weight", "boxes")),
        Theme("player", "Anna Ben Carla David Emma Felix Grace Hugo Ines Jack",
              ("goals", "games", "age", "points")),
        Theme("tool", "hammer saw drill file clamp level wrench chisel pliers vise",
              ("price", "orders", "stock", "returns")),
    ),
    "zh": (
        Theme("城市", "长沙 大连 厦门 昆明 济南 合肥 南宁 西宁 银川 贵阳",
              ("公园", "学校", "医院", "车站")),
        Theme("水果", "苹果 香蕉 葡萄 西瓜 桃子 草莓 樱桃 柠檬 芒果 石榴",
              ("单价", "库存", "重量", "箱数")),
        Theme("学生", "王芳 李强 张敏 刘洋 陈静 杨帆 赵磊 周婷 吴昊 孙悦",
              ("语文", "数学", "英语", "年龄")),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """Names and their whole numbers."""

    theme: Theme
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[int, ...]]

    @property
    def text(self) -> str:
        """The table in Markdown."""
        lines = [(self.theme.head, *self.columns), ("---",) * (len(self.columns) + 1)]
        lines += [(name, *map(str, numbers)) for name, numbers in self.rows.items()]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def column(self, place: int) -> dict[str, int]:
        """Return one column by name."""
        return {name: numbers[place] for name, numbers in self.rows.items()}


Asked = tuple[str, str]
"""A question and its answer."""


def _cell(table: Table, rng: Random, lang: Lang) -> Asked:
    name, place = rng.choice(list(table.rows)), rng.randrange(len(table.columns))
    column = table.columns[place]
    words = {"en": f"What is the value of {column} for {name}?", "zh": f"{name}的{column}是多少？"}
    return words[lang], str(table.rows[name][place])


def _extreme(table: Table, rng: Random, lang: Lang) -> Asked:
    place, most = rng.randrange(len(table.columns)), rng.random() < 0.5
    column = table.columns[place]
    values = table.column(place)
    name = (max if most else min)(values, key=values.__getitem__)
    words = {
        "en": f"Which {table.theme.head} has the {'highest' if most else 'lowest'} "
        f"value of {column}?",
        "zh": f"哪个{table.theme.head}的{column}最{'大' if most else '小'}？",
    }
    return words[lang], name


def _count(table: Table, rng: Random, lang: Lang) -> Asked:
    place = rng.randrange(len(table.columns))
    column, values = table.columns[place], sorted(table.column(place).values())
    limit = rng.choice(values[:-1])
    words = {
        "en": f"In how many rows is {column} more than {limit}?",
        "zh": f"{column}大于{limit}的有几行？",
    }
    return words[lang], str(sum(value > limit for value in values))


def _difference(table: Table, rng: Random, lang: Lang) -> Asked:
    place = rng.randrange(len(table.columns))
    column, values = table.columns[place], table.column(place)
    more, less = sorted(rng.sample(list(values), 2), key=values.__getitem__, reverse=True)
    words = {
        "en": f"By how much is {column} of {more} more than {column} of {less}?",
        "zh": f"{more}的{column}比{less}的{column}多多少？",
    }
    return words[lang], str(values[more] - values[less])


def _total(table: Table, rng: Random, lang: Lang) -> Asked:
    place = rng.randrange(len(table.columns))
    column = table.columns[place]
    words = {"en": f"What is the total of {column}?", "zh": f"{column}的总和是多少？"}
    return words[lang], str(sum(table.column(place).values()))


def _filtered(table: Table, rng: Random, lang: Lang) -> Asked:
    first, second = rng.sample(range(len(table.columns)), 2)
    one, two = table.columns[first], table.columns[second]
    limit = sorted(table.column(first).values())[rng.randrange(len(table.rows) - 2)]
    left = {name: numbers[second] for name, numbers in table.rows.items() if numbers[first] > limit}
    words = {
        "en": f"Of those with {one} more than {limit}, which {table.theme.head} has the lowest "
        f"value of {two}?",
        "zh": f"在{one}大于{limit}的{table.theme.head}中，哪个的{two}最小？",
    }
    return words[lang], min(left, key=left.__getitem__)


_LEVELS: tuple[tuple[int, int, int, Callable[[Table, Random, Lang], Asked]], ...] = (
    (3, 1, 9, _cell),
    (3, 1, 9, _extreme),
    (4, 2, 99, _cell),
    (5, 2, 99, _extreme),
    (5, 2, 20, _difference),
    (5, 2, 99, _count),
    (4, 2, 20, _total),
    (7, 3, 99, _filtered),
)
"""Rows, columns, largest number, question: by level."""


class Tables(Drawn):
    """Look up, compare, count, subtract, add, filter."""

    name = "tables"
    about = "Questions over a small table: look up, compare, count, add, filter."
    about_zh = "小表格问答：查找、比较、计数、求和、筛选。"
    levels = tuple(range(1, len(_LEVELS) + 1))
    max_tokens = 96

    def draw(self, rng: Random, level: int) -> Idea:
        """Draw numbers; themes and names are put to them later, and differ by language."""
        rows, columns, largest, _ = _LEVELS[level - 1]
        # In a column no number comes twice: the highest and the lowest are then one.
        drawn = [rng.sample(range(1, largest + 1), rows) for _ in range(columns)]
        key = json.dumps(drawn)
        return Idea(f"{key}/{rng.getrandbits(32)}", key)

    def pose(self, fact: str, rng: Random, level: int, lang: Lang) -> Puzzle:
        """Choose what the table is about and ask."""
        rows, columns, _, ask = _LEVELS[level - 1]
        numbers: list[list[int]] = json.loads(fact.partition("/")[0])
        theme = rng.choice(_THEMES[lang])
        names = rng.sample(theme.names.split(), rows)
        by_row = dict(zip(names, zip(*numbers, strict=True), strict=True))
        table = Table(theme, tuple(rng.sample(theme.columns, columns)), by_row)
        question, answer = ask(table, rng, lang)
        kind = _KINDS[lang][answer.isdigit()]
        text = _ASKED[lang].format(table=table.text, question=question, kind=kind)
        return Puzzle(text, answer, {"table": table.text, "names": names})

    def accepts(self, problem: Problem, answer: str) -> bool:
        """Compare numbers as numbers and names as they are written."""
        right: str = problem.meta["answer"]
        return number(answer) == int(right) if right.isdigit() else sentence(answer) == right

    def wrongs(self, problem: Problem) -> Sequence[str]:
        """Return neighbours, all names, and the table."""
        right: str = problem.meta["answer"]
        names: list[str] = problem.meta["names"]
        other = str(int(right) + 1) if right.isdigit() else next(n for n in names if n != right)
        return (
            other,
            " ".join(names),
            ", ".join(names),
            "、".join(names),
            "\n".join(names),
            " ".join(map(str, range(100))),
            f"{right} {other}",
            f"{right}/{other}",
            problem.meta["table"],
            f"| {right} |",
            f"not {other}",
        )
