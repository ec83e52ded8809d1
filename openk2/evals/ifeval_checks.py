"""The 25 kinds of instructions of IFEval whose following a program can see (arXiv 2311.07911).

In: an instruction's kind and settings, an answer. Out: whether the answer follows it.
Must not know: prompts, strict or loose grading, or what the answer is about.

Written from the paper and the instructions' wording, and compared with the authors' verdicts
(tests/golden/evals/ifeval.json). It differs on purpose where theirs is an accident: a keyword is
its letters and no regular expression, empty paragraphs do not shift the number of the others, and
a comma is one in Chinese, too.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from openk2.evals.ifeval_language import language_of, may_be

Settings = Mapping[str, Any]

_CHINESE = r"\u3400-\u9fff\u3040-\u30ff\uac00-\ud7af"
_END = re.compile(
    r"""(?P<mark>[.!?]+|…)(?P<close>["'”’)\]*_]*)(?=\s|$)|[。！？]+[”’」』）]*""",
)
_ABBREVIATIONS = """
    mr mrs ms dr prof st sr jr vs e.g i.e etc cf al inc ltd co corp fig vol pp dept gov sen gen lt
    sgt capt rev approx u.s u.k a.m p.m ph.d jan feb mar apr jun jul aug sep sept oct nov dec ave
    blvd
""".split()  # noqa: SIM905 - a table is read, a list of strings is not
_CAPITAL_TOKEN = re.compile(r"\w+(?:[-./&]\w+)*|(?<=\w)['’]\w+")
_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def follows(kind: str, settings: Settings, answer: str) -> bool:
    """Tell whether an answer follows an instruction.

    Args:
        kind: Its id, such as `punctuation:no_comma`.
        settings: Its numbers and words, named as in IFEval's file; None stands for absent.
        answer: What was answered.

    Raises:
        ValueError: There is no such kind, or it lacks a setting.
    """
    check = CHECKS.get(kind)
    if check is None:
        raise ValueError(f"there is no instruction {kind!r}; there are {', '.join(CHECKS)}")
    given = {name: value for name, value in settings.items() if value is not None}
    try:
        return check(answer, given)
    except KeyError as error:
        raise ValueError(f"the instruction {kind} needs {error} among its kwargs") from None


def sentences(text: str) -> int:
    """Count sentences: by their end marks, and what is left after the last one."""
    count, end = 0, 0
    for found in _END.finditer(text):
        mark, after = found["mark"], text[found.end() :].lstrip()[:1]
        if mark == "." and not found["close"] and _abbreviates(text[: found.start()]):
            continue
        if mark in ("...", "…") and after.islower():
            continue
        count, end = count + 1, found.end()
    return count + bool(re.search(r"\w", text[end:]))


def _abbreviates(before: str) -> bool:
    word = re.search(r"(\S+)$", before)
    if word is None:
        return False
    bare = word.group(1).strip("(\"'“‘[*_").casefold()
    return bare in _ABBREVIATIONS or (len(bare) == 1 and bare.isalpha() and bare != "i")


def _compare(count: int, relation: str, wanted: int) -> bool:
    match relation:
        case "less than":
            return count < wanted
        case "at least":
            return count >= wanted
        case _:
            raise ValueError(f"a relation is `less than` or `at least`, not {relation!r}")


def _found(keyword: str, text: str) -> int:
    return len(re.findall(re.escape(keyword), text, re.IGNORECASE))


def _has_word(word: str, text: str) -> bool:
    """Find a whole word; in scripts without spaces, its characters."""
    bounded = not re.search(f"[{_CHINESE}]", word)
    pattern = rf"(?<!\w){re.escape(word)}(?!\w)" if bounded else re.escape(word)
    return re.search(pattern, text, re.IGNORECASE) is not None


def _in_language(text: str, wanted: str) -> bool:
    """Compare languages; where a text is too short to tell, its script decides."""
    wanted = wanted.split("-")[0]
    found = language_of(text)
    return wanted in may_be(text) if found is None else found == wanted


def _existence(text: str, given: Settings) -> bool:
    return all(_found(keyword, text) for keyword in given["keywords"])


def _frequency(text: str, given: Settings) -> bool:
    return _compare(_found(given["keyword"].strip(), text), given["relation"], given["frequency"])


def _forbidden(text: str, given: Settings) -> bool:
    return not any(_has_word(word, text) for word in given["forbidden_words"])


def _letters(text: str, given: Settings) -> bool:
    count = text.lower().count(given["letter"].lower())
    return _compare(count, given["let_relation"], given["let_frequency"])


def _language(text: str, given: Settings) -> bool:
    return _in_language(text, given["language"])


def _sentences(text: str, given: Settings) -> bool:
    return _compare(sentences(text), given["relation"], given["num_sentences"])


def _paragraphs(text: str, given: Settings) -> bool:
    """Count paragraphs between `***`; only the first and the last may be empty."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    if not all(parts[1:-1]):
        return False
    return sum(map(bool, parts)) == given["num_paragraphs"]


def _words(text: str, given: Settings) -> bool:
    # Vowel signs of Indic scripts are no word characters to `re`, and would cut words in parts.
    bare = "".join(char for char in text if not unicodedata.category(char).startswith("M"))
    return _compare(len(re.findall(r"\w+", bare)), given["relation"], given["num_words"])


def _first_word(text: str, given: Settings) -> bool:
    parts = [part.strip() for part in text.split("\n\n") if part.strip()]
    which: int = given["nth_paragraph"]
    if len(parts) != given["num_paragraphs"] or not 0 < which <= len(parts):
        return False
    first = parts[which - 1].split()[0].lstrip("'\"“‘*_")
    word = re.split(r"""[.,?!'"’”*]""", first, maxsplit=1)[0]
    return word.lower() == given["first_word"].lower()


def _placeholders(text: str, given: Settings) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= given["num_placeholders"]


def _postscript(text: str, given: Settings) -> bool:
    marker = given["postscript_marker"].strip().lower()
    letters = re.findall(r"\w", marker)
    dotted = marker.startswith("p.") and set(letters) <= {"p", "s"}
    pattern = r"\.\s?".join(letters) + (r"\." if marker.endswith("s.") else "")
    return re.search(pattern if dotted else re.escape(marker), text.lower()) is not None


def _bullets(text: str, given: Settings) -> bool:
    found = re.findall(r"^\s*(?:\*[^*\n]|-).*$", text, re.M)
    return len(found) == given["num_bullets"]


def _constrained(text: str, given: Settings) -> bool:
    return any(option in text for option in given.get("options", _OPTIONS))


def _highlights(text: str, given: Settings) -> bool:
    # A star with a space after it begins a list's point; CommonMark reads it so, too.
    found = re.findall(r"(\*{1,2})(?=[^\s*])[^\n*]*(?<=\S)\1", text)
    return len(found) >= given["num_highlights"]


def _sections(text: str, given: Settings) -> bool:
    found = re.findall(rf"{re.escape(given['section_spliter'].strip())}\s?\d+", text)
    return len(found) >= given["num_sections"]


def _json(text: str, given: Settings) -> bool:
    del given
    inside = re.sub(r"\A\s*```(?:json)?|```\s*\Z", "", text, flags=re.I)
    try:
        json.loads(inside)
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, given: Settings) -> bool:
    del given
    return any(found.strip("<> \t") for found in re.findall(r"<<([^\n]+)>>", text))


def _two_responses(text: str, given: Settings) -> bool:
    del given
    parts = [part.strip() for part in text.split("******")]
    said = list(filter(None, parts))
    return all(parts[1:-1]) and len(said) == 2 and said[0] != said[1]


def _repeats(text: str, given: Settings) -> bool:
    return text.strip().lower().startswith(given["prompt_to_repeat"].strip().lower())


def _ends(text: str, given: Settings) -> bool:
    return text.strip().strip('"').lower().endswith(given["end_phrase"].strip().lower())


def _capital_words(text: str, given: Settings) -> bool:
    count = sum(word.isupper() for word in _CAPITAL_TOKEN.findall(text))
    return _compare(count, given["capital_relation"], given["capital_frequency"])


def _all_capital(text: str, given: Settings) -> bool:
    del given
    return text.isupper() and _in_language(text, "en")


def _all_lower(text: str, given: Settings) -> bool:
    del given
    return text.islower() and _in_language(text, "en")


def _no_comma(text: str, given: Settings) -> bool:
    del given
    return not set(text) & {",", "，"}


def _quoted(text: str, given: Settings) -> bool:
    del given
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


CHECKS: Mapping[str, Callable[[str, Settings], bool]] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letters,
    "language:response_language": _language,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": _words,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeats,
    "startend:end_checker": _ends,
    "startend:quotation": _quoted,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _all_capital,
    "change_case:english_lowercase": _all_lower,
    "punctuation:no_comma": _no_comma,
}
