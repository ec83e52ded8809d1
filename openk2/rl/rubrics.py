"""By what an answer without a checkable result is judged, and what a program can check of it.

Three kinds, after Kimi K2's Appendix F: core rubrics that hold everywhere, prescriptive ones that
close the known ways to please a judge, and those that a person writes for a task, in a file.

In: answers; a TOML file. Out: rubrics with their words in two languages; the rules that an answer
breaks. Must not know: who judges, how judgements become scores.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from openk2.config import load

Language = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class Rubric:
    """One thing that makes an answer better or worse."""

    name: str
    en: str
    """What it asks for, to the judge of an English problem."""
    zh: str = ""
    """The same for a Chinese problem; empty: the English words serve both."""
    mandatory: bool = False
    """An answer that breaks it is worth nothing, whatever else it does well."""
    families: tuple[str, ...] = ()
    """Families of problems that it is for; empty: all."""
    requires: str = ""
    """Regular expression that a mandatory rubric's answers contain: a program decides then."""
    forbids: str = ""
    """Regular expression that they do not contain."""
    most_words: int | None = None
    """Most words that they have; a Chinese character counts as a word."""

    def __post_init__(self) -> None:
        """Refuse a rubric that says nothing, or that cannot be checked as it asks.

        Raises:
            ValueError: What is wrong with it.
        """
        if not self.name.strip() or not self.en.strip():
            raise ValueError("a rubric needs a `name` and its words in `en`")
        if self.checkable and not self.mandatory:
            raise ValueError(
                f"rubric {self.name!r} has a check, which only decides over mandatory rubrics; "
                "add `mandatory = true`"
            )
        if self.most_words is not None and self.most_words < 1:
            raise ValueError(f"rubric {self.name!r}: most_words must be 1 or more")
        for pattern in (self.requires, self.forbids):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"rubric {self.name!r}: {pattern!r} is no regular expression: {error}"
                ) from error

    @property
    def checkable(self) -> bool:
        """Whether a program decides if an answer keeps it."""
        return bool(self.requires or self.forbids or self.most_words)

    def words(self, language: Language) -> str:
        """Return what it asks for."""
        return self.zh if language == "zh" and self.zh else self.en

    def kept_by(self, answer: str) -> bool:
        """Check an answer against the patterns and the length."""
        if self.requires and not re.search(self.requires, answer):
            return False
        if self.forbids and re.search(self.forbids, answer):
            return False
        return self.most_words is None or length(answer) <= self.most_words


CORE = (
    Rubric(
        "clarity and relevance",
        "It does what was asked, completely and directly, is easy to follow, and leaves out what "
        "does not help.",
        "完整、直接地完成所要求的事，条理清楚，不写无助于解决问题的内容。",
    ),
    Rubric(
        "fluency and engagement",
        "It reads as part of this conversation: natural, attentive to what the person needs, in "
        "the person's language, and neither curt nor padded.",
        "作为对话自然流畅，使用提问者的语言，顾及对方的需要，既不敷衍也不啰嗦。",
    ),
    Rubric(
        "objective and grounded",
        "What it claims is right and follows from what is known; it judges the matter and not the "
        "person, and invents nothing.",
        "所说的正确且有依据；就事论事，不评价提问者，不编造。",
    ),
)
"""Kimi K2's three core rubrics, in our words."""

PRESCRIPTIVE = (
    Rubric(
        "no initial praise",
        "It does not open by praising the question or the person.",
        "开头不夸奖问题或提问者。",
    ),
    Rubric(
        "no self-justification",
        "It does not say why it is a good answer or how well it meets the request.",
        "不解释自己为什么是好的回答，也不说自己如何满足了要求。",
    ),
)
"""Kimi K2's two prescriptive rubrics: what a judge is pleased by and nobody asked for."""


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Which rules close an answer out before a judge sees it."""

    praise: bool = True
    """Whether an answer that opens with praise is closed out."""
    justification: bool = True
    """Whether one that says how good it is, or that speaks to its judge, is closed out."""
    most_words: int | None = None
    """Most words of an answer, a Chinese character counting as one; None: as many as it wants."""

    def __post_init__(self) -> None:
        """Refuse a limit that no answer keeps."""
        if self.most_words is not None and self.most_words < 1:
            raise ValueError(f"most_words must be at least 1 or none, not {self.most_words}")


@dataclass(frozen=True, slots=True)
class _File:
    rubric: tuple[Rubric, ...]


def read_rubrics(path: Path) -> tuple[Rubric, ...]:
    """Read human-written rubrics: a TOML file with a `[[rubric]]` table for each.

    Raises:
        ConfigError: The file cannot be read, or a rubric has an unknown or wrong setting.
        ValueError: Two rubrics have one name.
    """
    rubrics = load(_File, path).rubric
    names = [rubric.name for rubric in (*CORE, *PRESCRIPTIVE, *rubrics)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path}: two rubrics are called {twice[0]!r}; give each its own name")
    return rubrics


def of_family(rubrics: tuple[Rubric, ...], family: str) -> tuple[Rubric, ...]:
    """Return the rubrics that are for a family of problems."""
    return tuple(one for one in rubrics if not one.families or family in one.families)


def broken_rules(
    answer: str, rubrics: tuple[Rubric, ...], settings: GateSettings
) -> tuple[str, ...]:
    """Name the rules that a program finds broken; an empty answer breaks the first of them.

    Args:
        answer: What would be judged.
        rubrics: Those that a program can check are checked.
        settings: Which other rules there are.
    """
    prose = _CODE.sub(" ", answer)
    limit = settings.most_words
    found = {
        "empty": not answer.strip(),
        "praise": settings.praise and bool(_PRAISE.match(prose.lstrip(_ORNAMENT)[:160])),
        "justification": settings.justification and bool(_JUSTIFIES.search(prose)),
        "length": limit is not None and length(answer) > limit,
    }
    found |= {one.name: not one.kept_by(answer) for one in rubrics if one.checkable}
    return tuple(name for name, broken in found.items() if broken)


def length(text: str) -> int:
    """Count words; a Chinese or Japanese character is one."""
    return len(_WORDS.findall(text))


def hedges(text: str) -> int:
    """Count phrases that say how sure something is: "might", "I think", 可能, 大概."""
    return len(_HEDGES.findall(text))


_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_ORNAMENT = " \t\r\n*_#>\"'“”‘’「」!！~～…👍🎉🌟😊😀😄✨👏🙌🔥💯\ufe0f"
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORDS = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+(?:['’.,][^\W{_CJK}]+)*")
_HEDGES = re.compile(
    r"\b(?:might|may|maybe|perhaps|possibly|probably|likely|roughly|i think|i believe|i guess|"
    r"i am not sure|i'm not sure|not certain|it seems|it depends|as far as i know)\b"
    r"|可能|也许|或许|大概|大约|似乎|好像|不确定|不一定|我认为|我想|我猜|据我所知|取决于",
    re.IGNORECASE,
)
_GOOD = (
    r"(?:great|good|excellent|wonderful|fantastic|amazing|awesome|brilliant|terrific|superb|"
    r"fascinating|interesting|thoughtful|insightful|important|lovely|smart|perfect|impressive)"
)
_PRAISED = r"(?:question|idea|point|thinking|request|topic|choice|observation|thought|problem|job)"
_PRAISE = re.compile(
    r"(?:(?:sure|certainly|of course|absolutely|ah|oh|wow|well|yes|hi|hello|hey|thanks?"
    r"(?: you)?(?: so much)?|好的|当然|嗯|哇|你好|您好|谢谢)[\s,.!，。！:~-]*){0,3}"
    r"(?:"
    rf"(?:what an? |that(?:'s| is|’s) (?:such )?an? |this is (?:such )?an? |such an? |an? )?"
    rf"(?:really |very |truly |absolutely |such an? )*{_GOOD},? (?:\w+ )?{_PRAISED}\b"
    rf"|i (?:really |absolutely )?(?:love|like|admire|appreciate) (?:this|that|your|the|how you)\b"
    rf"|(?:thank you|thanks)?(?: so much)? ?for (?:this|that|your|the|such an?) {_GOOD}\b"
    r"|you(?:'re|’re| are) (?:absolutely |so |very |quite |completely )+right\b"
    r"|you(?:'re|’re| are) (?:so |very |quite )*(?:right[,.!]|(?:smart|clever|brilliant)\b)"
    r"|(?:这|这个|那|您的|你的)?(?:问题|想法|提问|思路)?(?:真是|确实是|是|真的)?(?:一?个)?"
    r"(?:非常|很|真|太|特别|十分|极)?(?:好|棒|有趣|精彩|有意思|有深度|重要|出色|聪明)的?"
    r"(?:问题|想法|提问|主意|思路|点子)"
    r"|(?:你|您)(?:的(?:问题|想法|提问))?(?:问|说|提|想)?得?(?:非常|很|真|太|特别|十分)"
    r"(?:好|棒|对|聪明|有深度|精彩)"
    r"|(?:太|真)(?:棒|好|厉害|聪明|精彩)了"
    r")",
    re.IGNORECASE,
)
_ITSELF = r"(?:this|my|the above|the following|above|following|the given|the present)"
_ANSWER = r"(?:answer|response|reply|solution|explanation)"
_MERIT = (
    r"(?:clear|concise|complete|comprehensive|correct|accurate|helpful|relevant|thorough|detailed|"
    r"well[- ](?:written|structured|organi[sz]ed)|(?:the )?best|better|superior|ideal|perfect|"
    r"high[- ]quality|good|excellent|optimal)"
)
_JUSTIFIES = re.compile(
    rf"\b{_ITSELF} {_ANSWER} (?:is|was|remains|should be|deserves)(?: (?:the|a|an|to be|both|very|"
    rf"really|so|clearly|also|far|chosen|rated))* {_MERIT}\b"
    rf"|\b{_ITSELF} {_ANSWER} (?:fully |directly |clearly |perfectly |completely |carefully )?"
    r"(?:satisfies|meets|fulfils|fulfills|follows|adheres|complies|addresses|respects|covers)\b"
    rf"|\b{_ITSELF} {_ANSWER} (?:deserves|should (?:win|be (?:chosen|preferred|selected|rated)))"
    rf"|\bi (?:chose|wrote|structured|phrased|kept|designed) (?:this|my|the) {_ANSWER}\b"
    rf"|\bi(?:'ve|’ve| have)? (?:ensured|made sure|taken care) (?:that )?(?:this|my|the) {_ANSWER}"
    rf"|\b(?:choose|pick|prefer|select|favou?r|vote for|rate) (?:me|my {_ANSWER}|this {_ANSWER}|"
    rf"{_ANSWER} [AB12])\b"
    r"|\b(?:dear|note to the|message to the|attention,?) (?:judge|grader|evaluator|critic)\b"
    r"|\bverdict\s*[:=]\s*[AB]\b|\[\[[AB]\]\]"
    r"|(?:以上|上述|这个|这一|本|我的|此)(?:回答|答案|回复|解答)(?:是|非常|很|更|最|十分|完全|都)*"
    r"(?:清晰|清楚|简洁|完整|全面|准确|正确|好的|符合|满足|遵循|优秀|最佳|更好)"
    r"|我(?:之所以)?(?:这样|如此)(?:回答|写)(?:，)?是?因为"
    r"|(?:请|应该?)(?:选择?|判|给)(?:我|本回答|这个回答|此回答)(?:的回答)?(?:更好|胜|赢|高分)?"
    r"|(?:尊敬的|亲爱的|致)(?:评委|评审|裁判|评判者)",
    re.IGNORECASE,
)
