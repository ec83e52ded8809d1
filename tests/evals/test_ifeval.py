"""Instructions are checked as the public checkers do, except where a reason is on record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.evals.benchmark import Answer
from openk2.evals.ifeval import IFEVAL, INSTRUCTIONS, followed, variants
from openk2.evals.ifeval_checks import CHECKS, follows, sentences
from openk2.evals.ifeval_language import language_of
from openk2.evals.ifeval_prompts import Prompt, prompts
from openk2.types import Message, Usage

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "evals" / "ifeval.json"
RECORD: dict[str, Any] = json.loads(GOLDEN.read_text("utf-8"))


def test_verdicts_are_those_of_the_public_checkers_on_thousands_of_pairs():
    answers: dict[str, str] = RECORD["answers"]
    apart, total, wrong = set[str](), 0, list[str]()
    for row in RECORD["checks"]:
        for (name, answer), mark in zip(answers.items(), row["public"], strict=True):
            ours = follows(row["kind"], row["settings"], answer)
            total += 1
            if mark in "PF":
                apart.add(row["kind"])
            if ours != (mark in "1F"):
                wrong.append(f"{row['kind']} {row['settings']} {name}")
    assert wrong == [] and total > 7000
    assert apart == set(RECORD["apart"]), "each kind that differs has its reason, and no other"
    marks = "".join(row["public"] for row in RECORD["checks"])
    assert (marks.count("P") + marks.count("F")) / total < 0.01
    assert {row["kind"] for row in RECORD["checks"]} == set(CHECKS) and len(CHECKS) == 25


def test_languages_are_told_apart():
    named = {
        "german": "de", "french": "fr", "spanish": "es", "portuguese": "pt", "italian": "it",
        "dutch": "nl", "swedish": "sv", "finnish": "fi", "swahili": "sw", "vietnamese": "vi",
        "russian": "ru", "bulgarian": "bg", "korean": "ko", "thai": "th", "hindi": "hi",
        "marathi": "mr", "nepali": "ne", "bengali": "bn", "gujarati": "gu", "punjabi": "pa",
        "tamil": "ta", "telugu": "te", "kannada": "kn", "arabic": "ar", "persian": "fa",
        "urdu": "ur", "chinese": "zh", "japanese": "ja", "plain": "en", "mixed": "en",
        "digits": None, "capitals": "en",
    }  # fmt: skip
    assert {name: language_of(RECORD["answers"][name]) for name in named} == named


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("No end", 1),
        ("One. Two! Three?", 3),
        ("Dr. A. Smith paid $3.50 at 5 p.m. on Monday.", 1),
        ("He said no. She left… slowly. (Really.)", 3),
        ("海面很平静。我们走了很久！“好吗？”她问。", 4),
    ],
)
def test_sentences_are_counted_by_their_ends(text: str, count: int):
    assert sentences(text) == count


def test_loose_grading_forgives_a_line_before_and_after_and_emphasis():
    instructions = [{"kind": "detectable_format:json_format", "settings": {}}]
    assert followed(instructions, 'Sure:\n{"a": 1}\nDone.') == ([False], [True])
    assert followed(instructions, '**{"a": 1}**') == ([False], [True])
    assert followed(instructions, "Sure: no") == ([False], [False])
    assert followed([{"kind": "punctuation:no_comma", "settings": {}}], " ") == ([False], [False])
    assert len(variants("a\nb")) == 8


def test_a_kind_that_is_not_there_and_a_setting_that_lacks_are_named():
    with pytest.raises(ValueError, match="no instruction 'a:b'"):
        follows("a:b", {}, "text")
    with pytest.raises(ValueError, match="needs 'num_bullets'"):
        follows("detectable_format:number_bullet_lists", {"num_bullets": None}, "text")
    with pytest.raises(ValueError, match="not 'around'"):
        follows("length_constraints:number_words", {"relation": "around", "num_words": 3}, "text")


OWN = prompts()


@given(st.sampled_from(OWN), st.text(max_size=80))
def test_any_answer_to_any_prompt_has_a_verdict(prompt: Any, answer: str):
    instructions = [{"kind": kind, "settings": given} for kind, given in prompt.instructions]
    strict, loose = followed(instructions, answer)
    assert all(easy or not hard for hard, easy in zip(strict, loose, strict=True))


def test_the_prompts_of_our_own_have_every_kind_in_both_languages():
    assert [(p.text, p.instructions) for p in OWN] == [(p.text, p.instructions) for p in prompts()]
    assert len({p.text for p in OWN}) == len(OWN) == 240
    assert {kind for p in OWN for kind, _ in p.instructions} == set(CHECKS)
    chinese = [p for p in OWN if p.language == "zh"]
    assert (
        len(chinese) * 2 == len(OWN) and len({k for p in chinese for k, _ in p.instructions}) > 18
    )
    assert all("{" not in p.text for p in OWN)


LANGUAGES = {
    "de": "german", "fr": "french", "es": "spanish", "ru": "russian", "ko": "korean",
    "vi": "vietnamese", "zh": "chinese", "en": "plain",
}  # fmt: skip
WHOLE = {
    "constrained_response": lambda g: g["options"][0],
    "json_format": lambda g: "{}",
    "two_responses": lambda g: "one\n******\ntwo",
    "repeat_prompt": lambda g: g["prompt_to_repeat"] + " done",
    "response_language": lambda g: RECORD["answers"][LANGUAGES[g["language"]]],
}
WORDS = {
    "existence": lambda g: g["keywords"],
    "frequency": lambda g: [g["keyword"]] * g["frequency"],
    "letter_frequency": lambda g: [g["letter"]] * g["let_frequency"],
    "number_words": lambda g: ["and"] * g["num_words"],
    "capital_word_frequency": lambda g: ["UN"] * g["capital_frequency"],
    "number_sentences": lambda g: ["on."] * g["num_sentences"],
    "number_placeholders": lambda g: ["[x]"] * g["num_placeholders"],
    "number_highlighted_sections": lambda g: ["*y*"] * g["num_highlights"],
    "title": lambda g: ["<<t>>"],
}
LINES = {
    "number_bullet_lists": lambda g: "\n* z" * g["num_bullets"],
    "multiple_sections": lambda g: "".join(
        f"\n{g['section_spliter']} {number + 1}" for number in range(g["num_sections"])
    ),
    "number_paragraphs": lambda g: "\n***\ngo" * (g["num_paragraphs"] - 1),
    "postscript": lambda g: f"\n{g['postscript_marker']} go",
    "end_checker": lambda g: f" {g['end_phrase']}",
}


def obey(prompt: Prompt) -> str:
    """Write an answer that follows every instruction of a prompt, and does nothing else."""
    given = {kind.split(":")[1]: settings for kind, settings in prompt.instructions}
    for kind in WHOLE.keys() & given.keys():
        return WHOLE[kind](given[kind])
    words = ["好" if prompt.language == "zh" else "and"]
    for kind, settings in given.items():
        if kind in WORDS and "less than" not in settings.values():
            words += WORDS[kind](settings)
    text = " ".join(words)
    text += "".join(LINES[kind](given[kind]) for kind in LINES if kind in given)
    if first := given.get("nth_paragraph_first_word"):
        parts = ["go"] * (first["num_paragraphs"] - 1) + [text]
        parts[first["nth_paragraph"] - 1] = (
            f"{first['first_word']} " + (parts[first["nth_paragraph"] - 1])
        )
        text = "\n\n".join(parts)
    text = f'"{text}"' if "quotation" in given else text
    text = text.upper() if "english_capital" in given else text
    return text.lower() if "english_lowercase" in given else text


def test_every_prompt_of_our_own_can_be_followed_and_silence_follows_none():
    cases = list(INSTRUCTIONS.cases(Path()))
    for case, prompt in zip(cases, OWN, strict=True):
        assert INSTRUCTIONS.score(case, answered(obey(prompt)))["prompt_strict"] == 1, prompt
        assert INSTRUCTIONS.score(case, answered(""))["prompt_loose"] == 0


def answered(text: str) -> Answer:
    return Answer((Message("assistant", text),), "stop", Usage(1, 1), 0.1)


def test_scores_count_prompts_and_instructions(tmp_path: Path):
    (tmp_path / "eval").mkdir()
    row = {
        "key": 7,
        "prompt": "Say it in two bullets without commas.",
        "instruction_id_list": ["punctuation:no_comma", "detectable_format:number_bullet_lists"],
        "kwargs": [{}, {"num_bullets": 2, "relation": None}],
    }
    (tmp_path / "eval" / "ifeval.jsonl").write_text(json.dumps(row) + "\n")
    (case,) = IFEVAL.cases(tmp_path)
    right = IFEVAL.score(case, answered("* a\n* b"))
    half = IFEVAL.score(case, answered("* a\n* b\n* c"))
    assert right["prompt_strict"] == 1 and half["prompt_strict"] == 0
    means = {name: np.array([(right[name] + half[name]) / 2]) for name in right}
    assert IFEVAL.derived["instruction_strict"](means) == pytest.approx([0.75])


def test_without_the_public_file_the_error_says_where_it_is(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"input_data\.jsonl"):
        list(IFEVAL.cases(tmp_path))
    assert len(list(INSTRUCTIONS.cases(tmp_path))) == len(OWN)
