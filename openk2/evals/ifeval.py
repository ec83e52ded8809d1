"""IFEval: does an answer follow instructions that a program can check?

In: prompts with the kinds and settings of their instructions; answers. Out: the share of prompts
and of instructions that were followed, strictly and loosely.
Must not know: how a kind is checked, or how prompts are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openk2.evals.benchmark import Answer, Benchmark, Case, Means, Scores, ask_once
from openk2.evals.ifeval_checks import follows
from openk2.evals.ifeval_prompts import prompts
from openk2.text.corpus import read_rows
from openk2.types import Message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def variants(answer: str) -> list[str]:
    """Return the readings of an answer that loose grading accepts (arXiv 2311.07911, §2).

    They forgive a sentence before, a sentence after, and emphasis.
    """
    lines = answer.split("\n")
    cut = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return cut + [text.replace("*", "") for text in cut]


def followed(
    instructions: Sequence[Mapping[str, Any]], answer: str
) -> tuple[list[bool], list[bool]]:
    """Tell for each instruction whether an answer follows it, strictly and loosely.

    Args:
        instructions: Each with `kind` and `settings`.
        answer: What was answered.
    """

    def one(instruction: Mapping[str, Any], texts: list[str]) -> bool:
        kind, settings = instruction["kind"], instruction["settings"]
        return any(bool(text.strip()) and follows(kind, settings, text) for text in texts)

    readings = variants(answer)
    strict = [one(instruction, [answer]) for instruction in instructions]
    return strict, [one(instruction, readings) for instruction in instructions]


def _score(case: Case, answer: Answer) -> Scores:
    strict, loose = followed(case.gold, answer.text)
    return {
        "prompt_strict": float(all(strict)),
        "prompt_loose": float(all(loose)),
        "_followed_strict": float(sum(strict)),
        "_followed_loose": float(sum(loose)),
        "_instructions": float(len(case.gold)),
    }


def _share(metric: str) -> Callable[[Means], NDArray[np.float64]]:
    def share(means: Means) -> NDArray[np.float64]:
        return means[metric] / means["_instructions"]

    return share


_SHARES = {
    "instruction_strict": _share("_followed_strict"),
    "instruction_loose": _share("_followed_loose"),
}
_FAILED = {
    "prompt_strict": 0.0,
    "prompt_loose": 0.0,
    "_followed_strict": 0.0,
    "_followed_loose": 0.0,
    "_instructions": 1.0,
}


def _group(instructions: list[dict[str, Any]]) -> str:
    kinds = {instruction["kind"].split(":")[0] for instruction in instructions}
    return kinds.pop() if len(kinds) == 1 else "several"


def _public(data: Path) -> Iterator[Case]:
    path = data / IFEVAL.packs[0]
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: the 541 prompts of IFEval are not part of openk2; save"
            " input_data.jsonl of google-research/instruction_following_eval under that name,"
            " or measure `instructions`, which has prompts of the same kinds"
        )
    for row in read_rows(path):
        instructions = [
            {"kind": kind, "settings": settings}
            for kind, settings in zip(row["instruction_id_list"], row["kwargs"], strict=True)
        ]
        words = Message("user", row["prompt"])
        yield Case(f"ifeval/{row['key']}", _group(instructions), (words,), gold=instructions)


def _own(data: Path) -> Iterator[Case]:
    del data
    for number, prompt in enumerate(prompts()):
        words = Message("user", prompt.text)
        instructions = [{"kind": kind, "settings": given} for kind, given in prompt.instructions]
        group = f"{prompt.language} {_group(instructions)}"
        yield Case(f"instructions/{number}", group, (words,), gold=instructions)


IFEVAL = Benchmark(
    name="ifeval",
    about="541 prompts with instructions that a program can check; the file is not included.",
    about_zh="541 条带有可程序检查的指令的提示；数据文件需自行下载。",
    licence="Apache-2.0",
    source="google-research/google-research instruction_following_eval/data/input_data.jsonl",
    packs=("eval/ifeval.jsonl",),
    headline="prompt_strict",
    cases=_public,
    score=_score,
    answer=ask_once(1280),
    failed=_FAILED,
    derived=_SHARES,
)
INSTRUCTIONS = Benchmark(
    name="instructions",
    about="Made prompts with IFEval's kinds of checkable instructions, English and Chinese.",
    about_zh="自制提示，指令类型与 IFEval 相同、可程序检查，中英文各半。",
    licence="Apache-2.0",
    source="openk2/evals/ifeval_prompts.py",
    packs=(),
    headline="prompt_strict",
    cases=_own,
    score=_score,
    answer=ask_once(768),
    failed=_FAILED,
    derived=_SHARES,
)
BENCHMARKS = (IFEVAL, INSTRUCTIONS)
