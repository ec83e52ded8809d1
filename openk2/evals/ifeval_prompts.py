"""Prompts of our own with IFEval's kinds of instructions, English and Chinese.

In: nothing. Out: the same prompts every time, with the settings that check them.
Must not know: how an instruction is checked, or how answers are scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from random import Random
from typing import Any, Literal, cast

Language = Literal["en", "zh"]

PER_LANGUAGE = 120
"""Prompts of each language: every kind of instruction is then in at least three."""
SEED = 25
"""Draws them. Another number makes another benchmark."""

_REQUESTS: Mapping[Language, tuple[str, ...]] = {
    "en": (
        "Write a short letter to a friend about a day at the sea.",
        "Explain to a child why leaves change colour in autumn.",
        "Describe a market in the morning.",
        "Give advice to someone who starts to learn the piano.",
        "Tell a story about a dog that finds its way home.",
        "Write a notice that a library closes early on Friday.",
        "Compare trains and buses for a trip of three hours.",
        "Describe how bread is made.",
        "Write a product description for a wooden toy boat.",
        "Say what a small town can do to save water.",
        "Write an invitation to a garden party.",
        "Explain what a budget is and why a family needs one.",
    ),
    "zh": (
        "给朋友写一封短信，讲讲在海边的一天。",
        "向孩子解释为什么秋天树叶会变色。",
        "描写清晨的菜市场。",
        "给刚开始学钢琴的人一些建议。",
        "讲一个小狗自己找到回家路的故事。",
        "写一则通知：图书馆周五提前闭馆。",
        "比较三小时路程坐火车和坐汽车的好处与坏处。",
        "介绍面包是怎么做出来的。",
        "为一只木制玩具船写一段商品介绍。",
        "说说小镇可以怎样节约用水。",
        "写一份花园聚会的邀请函。",
        "解释什么是预算，以及家庭为什么需要预算。",
    ),
}
_QUESTIONS: Mapping[Language, tuple[str, ...]] = {
    "en": ("Is a whale a fish?", "Can plants live without light?", "Is seven a prime number?"),
    "zh": ("鲸鱼是鱼吗？", "植物没有光能活吗？", "七是质数吗？"),
}
_OPTIONS: Mapping[Language, tuple[str, ...]] = {
    "en": ("My answer is yes.", "My answer is no.", "My answer is maybe."),
    "zh": ("我的答案是肯定的。", "我的答案是否定的。", "我的答案是不确定。"),
}
_KEYWORDS: Mapping[Language, tuple[str, ...]] = {
    "en": ("morning", "water", "family", "colour", "quiet", "together", "journey", "small"),
    "zh": ("早晨", "水", "家人", "颜色", "安静", "一起", "旅程", "小"),
}
_ENDINGS: Mapping[Language, tuple[str, ...]] = {
    "en": ("That is all I know.", "Let me know what you think.", "I hope this helps."),
    "zh": ("我知道的就是这些。", "请告诉我你的想法。", "希望对你有帮助。"),
}
_FIRST_WORDS = ("however", "today", "perhaps", "imagine")
_LANGUAGES = {
    "de": ("German", "德语"), "fr": ("French", "法语"), "es": ("Spanish", "西班牙语"),
    "ru": ("Russian", "俄语"), "ko": ("Korean", "韩语"), "vi": ("Vietnamese", "越南语"),
    "zh": ("Chinese", "中文"), "en": ("English", "英语"),
}  # fmt: skip
_WORDING: Mapping[str, tuple[str, str]] = {
    "keywords:existence": (
        'Use the words "{0}" and "{1}".',
        "文中要出现“{0}”和“{1}”这两个词。",
    ),
    "keywords:frequency": (
        'Use the word "{keyword}" {relation} {frequency} times.',
        "“{keyword}”一词的出现次数要{relation} {frequency} 次。",
    ),
    "keywords:forbidden_words": (
        'Do not use the words "{0}" and "{1}".',
        "不要使用“{0}”和“{1}”这两个词。",
    ),
    "keywords:letter_frequency": (
        'Let the character "{letter}" appear {let_relation} {let_frequency} times.',
        "字符“{letter}”的出现次数要{let_relation} {let_frequency} 次。",
    ),
    "language:response_language": (
        "Answer in {name} and in no other language.",
        "只用{name}回答，不要用其他语言。",
    ),
    "length_constraints:number_sentences": (
        "Your answer has {relation} {num_sentences} sentences.",
        "回答的句子数要{relation} {num_sentences} 句。",
    ),
    "length_constraints:number_paragraphs": (
        "Write exactly {num_paragraphs} paragraphs with a line of three asterisks, ***, between"
        " two of them.",
        "恰好写 {num_paragraphs} 段，段与段之间用一行三个星号 *** 隔开。",
    ),
    "length_constraints:number_words": ("Your answer has {relation} {num_words} words.", ""),
    "length_constraints:nth_paragraph_first_word": (
        "Write exactly {num_paragraphs} paragraphs with an empty line between two of them, and"
        ' begin paragraph {nth_paragraph} with the word "{first_word}".',
        "",
    ),
    "detectable_content:number_placeholders": (
        "Leave at least {num_placeholders} placeholders in square brackets, such as [name].",
        "至少留出 {num_placeholders} 个方括号占位符，例如 [姓名]。",
    ),
    "detectable_content:postscript": (
        "At the end, add a postscript that begins with {postscript_marker}",
        "在末尾加一段附言，以 {postscript_marker} 开头。",
    ),
    "detectable_format:number_bullet_lists": (
        "Include exactly {num_bullets} bullet points, each a line that begins with `* `.",
        "恰好列出 {num_bullets} 个要点，每个要点占一行，以 `* ` 开头。",
    ),
    "detectable_format:constrained_response": (
        "Answer with one of these and nothing else: {0} {1} {2}",
        "只能从以下三句中选一句作答：{0} {1} {2}",
    ),
    "detectable_format:number_highlighted_sections": (
        "Highlight at least {num_highlights} parts with single asterisks, like *this part*.",
        "至少用单星号突出 {num_highlights} 处，例如 *这一处*。",
    ),
    "detectable_format:multiple_sections": (
        "Write {num_sections} sections, and mark the beginning of each with {section_spliter} and"
        " its number, such as {section_spliter} 1.",
        "分 {num_sections} 节来写，每节开头标明 {section_spliter} 和编号，"
        "例如 {section_spliter} 1。",
    ),
    "detectable_format:json_format": (
        "Your whole answer is one JSON object.",
        "整个回答必须是一个 JSON 对象。",
    ),
    "detectable_format:title": (
        "Give it a title in double angle brackets, such as <<a title>>.",
        "加一个用双尖括号括起来的标题，例如 <<标题>>。",
    ),
    "combination:two_responses": (
        "Give two different answers with six asterisks, ******, between them and nothing else.",
        "给出两个不同的回答，两者之间只用六个星号 ****** 隔开。",
    ),
    "combination:repeat_prompt": (
        "First repeat the request above word for word, without this sentence; then answer it.",
        "先一字不差地重复上面的要求（不含本句），然后再作答。",
    ),
    "startend:end_checker": (
        'End with exactly this sentence and nothing after it: "{end_phrase}"',
        "最后一句必须是“{end_phrase}”，后面不要再有任何内容。",
    ),
    "startend:quotation": (
        "Put your whole answer in double quotation marks.",
        '把整个回答放在英文双引号 " 里。',
    ),
    "change_case:capital_word_frequency": (
        "Words in capital letters only appear {capital_relation} {capital_frequency} times.",
        "",
    ),
    "change_case:english_capital": ("Write in capital letters only, in English.", ""),
    "change_case:english_lowercase": ("Write in lower-case letters only, in English.", ""),
    "punctuation:no_comma": ("Do not use any comma.", "不要使用任何逗号。"),
}
"""What each kind says in English and in Chinese; empty where it makes no sense there."""
_RELATIONS = {"at least": "至少为", "less than": "少于"}
_ALONE = frozenset(
    {
        "detectable_format:constrained_response",
        "detectable_format:json_format",
        "combination:two_responses",
        "combination:repeat_prompt",
        "language:response_language",
    }
)
"""Kinds that hardly go with others."""
_SAME_THING = (
    {"length_constraints:number_paragraphs", "length_constraints:nth_paragraph_first_word"},
    {
        "change_case:capital_word_frequency",
        "change_case:english_capital",
        "change_case:english_lowercase",
    },
    {"startend:quotation", "startend:end_checker", "detectable_content:postscript"},
    {"length_constraints:number_sentences", "length_constraints:number_words"},
    {"startend:quotation", "detectable_format:title"},
    {"detectable_format:multiple_sections", "length_constraints:number_paragraphs"},
    {"keywords:existence", "keywords:forbidden_words", "keywords:frequency"},
    # Their examples are in lower or capital letters, or hold what the other forbids.
    {"change_case:english_lowercase", "detectable_format:multiple_sections"},
    {"change_case:english_capital", "detectable_format:multiple_sections"},
    {"change_case:capital_word_frequency", "detectable_format:multiple_sections"},
    {"change_case:english_lowercase", "startend:end_checker"},
    {"change_case:english_capital", "startend:end_checker"},
    {"detectable_format:number_bullet_lists", "length_constraints:number_sentences"},
)
"""Of each of these, a prompt has at most one."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request with instructions."""

    language: Language
    text: str
    instructions: tuple[tuple[str, dict[str, Any]], ...]
    """Kind and settings of each."""


def prompts() -> list[Prompt]:
    """Make all prompts, first the English ones."""
    random = Random(SEED)
    made: dict[str, Prompt] = {}
    languages: tuple[Language, ...] = ("en", "zh")
    for count, language in enumerate(languages, start=1):
        kinds = [kind for kind, words in _WORDING.items() if words[language == "zh"]]
        for first in cycle(kinds):
            prompt = _prompt(random, language, _company(random, first, kinds))
            made.setdefault(prompt.text, prompt)
            if len(made) == count * PER_LANGUAGE:
                break
    return list(made.values())


def _company(random: Random, first: str, kinds: list[str]) -> list[str]:
    """Choose up to two more kinds that go with the first."""
    chosen = [first]
    if first in _ALONE:
        return chosen
    for kind in random.sample(kinds, len(kinds))[: 4 * random.randrange(3)]:
        clash = any(kind in same and same & set(chosen) for same in _SAME_THING)
        if kind not in _ALONE and kind not in chosen and not clash and len(chosen) < 3:
            chosen.append(kind)
    return chosen


def _prompt(random: Random, language: Language, kinds: list[str]) -> Prompt:
    closed = kinds == ["detectable_format:constrained_response"]
    request = random.choice((_QUESTIONS if closed else _REQUESTS)[language])
    parts, instructions = [request], list[tuple[str, dict[str, Any]]]()
    for kind in kinds:
        settings = _settings(random, kind, language, request)
        parts.append(_worded(kind, settings, language))
        instructions.append((kind, settings))
    return Prompt(language, (" " if language == "en" else "").join(parts), tuple(instructions))


def _settings(random: Random, kind: str, language: Language, request: str) -> dict[str, Any]:
    relation = random.choice(("at least", "less than"))
    keywords = random.sample([word for word in _KEYWORDS[language] if word not in request], 2)
    others = [code for code in _LANGUAGES if code != language]
    paragraphs = random.randint(2, 4)
    made: dict[str, dict[str, Any]] = {
        "keywords:existence": {"keywords": keywords},
        "keywords:frequency": {
            "keyword": keywords[0],
            "relation": relation,
            "frequency": random.randint(2, 4),
        },
        "keywords:forbidden_words": {"forbidden_words": keywords},
        "keywords:letter_frequency": {
            "letter": random.choice("qzxv!" if language == "en" else "的一了！"),
            "let_relation": relation,
            "let_frequency": random.randint(2, 6),
        },
        "language:response_language": {"language": random.choice(others)},
        "length_constraints:number_sentences": {
            "relation": relation,
            "num_sentences": random.randint(3, 8),
        },
        "length_constraints:number_paragraphs": {"num_paragraphs": paragraphs},
        "length_constraints:number_words": {
            "relation": relation,
            "num_words": random.choice((40, 60, 100, 150)),
        },
        "length_constraints:nth_paragraph_first_word": {
            "num_paragraphs": paragraphs,
            "nth_paragraph": random.randint(1, paragraphs),
            "first_word": random.choice(_FIRST_WORDS),
        },
        "detectable_content:number_placeholders": {"num_placeholders": random.randint(1, 4)},
        "detectable_content:postscript": {"postscript_marker": random.choice(("P.S.", "P.P.S"))},
        "detectable_format:number_bullet_lists": {"num_bullets": random.randint(2, 6)},
        "detectable_format:constrained_response": {"options": list(_OPTIONS[language])},
        "detectable_format:number_highlighted_sections": {"num_highlights": random.randint(1, 3)},
        "detectable_format:multiple_sections": {
            "section_spliter": random.choice(("Section", "PART")),
            "num_sections": random.randint(2, 4),
        },
        "combination:repeat_prompt": {"prompt_to_repeat": request},
        "startend:end_checker": {"end_phrase": random.choice(_ENDINGS[language])},
        "change_case:capital_word_frequency": {
            "capital_relation": relation,
            "capital_frequency": random.randint(2, 5),
        },
    }
    return made.get(kind, {})


def _worded(kind: str, settings: dict[str, Any], language: Language) -> str:
    template = _WORDING[kind][language == "zh"]
    lists = [cast(list[str], value) for value in settings.values() if isinstance(value, list)]
    listed = lists[0] if lists else []
    named = dict(settings)
    if kind == "language:response_language":
        named["name"] = _LANGUAGES[settings["language"]][language == "zh"]
    if language == "zh":
        named = {name: _RELATIONS.get(str(value), value) for name, value in named.items()}
    return template.format(*listed, **named)
