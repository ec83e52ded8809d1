"""The critic learns from what a program knows, and is trusted only while it agrees with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from openk2.rl.critic import (
    Agreement,
    CriticSettings,
    KnownPair,
    agreement,
    batches,
    conversations,
    known_pairs,
    split,
)
from openk2.rl.verdict import Verdict
from openk2.text.conversations import problem as unsound
from openk2.text.template import render_training
from openk2.text.tokenizer import Tokenizer
from openk2.types import Message, ToolCall, Trajectory
from tests.rl.scripted_judges import always_first, by, fenced, longer, noisy, silent

SETTINGS = CriticSettings()


def pairs(count: int, family: str = "sums", right: str = "quality 9", wrong: str = "quality 1"):
    return [
        KnownPair(
            f"{family}/{i}", family, (Message("user", f"What is {i} and one?"),),
            f"{right}, {family} {i}", f"{wrong}, {family} {i}",
        )
        for i in range(count)
    ]  # fmt: skip


def measured(verdict: Verdict, known: Sequence[KnownPair]) -> Agreement:
    return asyncio.run(agreement(verdict, known, SETTINGS))


def episode(text: str, reward: float, problem: str = "sums/1", **parts: float) -> Trajectory:
    messages = (Message("user", "What is 1 + 1?"), Message("assistant", text))
    return Trajectory(problem, "sums", (), messages, reward, parts, "stop")


def test_agreement_is_the_accuracy_of_a_noisy_critic():
    # Of pairs that are asked both ways, 0.64 are right twice, 0.04 wrong twice, the others tie and
    # count half: 0.8 again, with a deviation of 0.283.
    found = measured(noisy(0.8), [*pairs(300), *pairs(100, "logic")])
    assert found.overall is not None
    deviation = 0.283 / 400**0.5
    assert found.overall.value == pytest.approx(0.8, abs=3 * deviation)
    assert found.overall.high - found.overall.low == pytest.approx(4 * deviation, rel=0.15)
    assert (found.families["sums"].n, found.families["logic"].n) == (300, 100)
    assert (found.distrust, found.weight) == ("", 1.0)
    shown = found.metrics()
    assert (shown["critic/trusted"], shown["critic/missing"]) == (1.0, 0.0)
    assert shown["critic/agreement/logic_low"] < shown["critic/agreement/logic"]


@pytest.mark.parametrize("verdict", [noisy(0.5), always_first, silent])
def test_a_critic_at_chance_has_no_weight(verdict: Verdict):
    found = measured(verdict, pairs(150))
    assert "not above chance" in found.distrust
    assert found.weight == 0.0
    assert found.metrics()["critic/trusted"] == found.metrics()["critic/weight"] == 0.0


def test_a_favourite_place_and_silence_are_not_agreement():
    place, mute = measured(always_first, pairs(30)), measured(silent, pairs(30))
    assert place.overall is not None and mute.overall is not None
    assert (place.overall.value, place.first) == (0.5, 1.0)
    assert (mute.overall.value, mute.missing) == (0.0, 1.0)


def test_few_pairs_are_not_enough_however_right_it_is():
    assert "8 held-out pairs, fewer than 20" in measured(noisy(1.0), pairs(8)).distrust
    assert "0 held-out pairs" in measured(noisy(1.0), []).distrust
    assert measured(noisy(1.0), []).metrics()["critic/weight"] == 0.0


def test_a_critic_that_only_sees_length_is_caught_where_length_misleads():
    known = [*pairs(40, wrong="quality 1", right="quality 9 and more"), *pairs(10, "short")]
    found = measured(longer, [*known[:40], *pairs(10, "short", wrong="quality 1 and more")])
    assert found.overall is not None and found.against_length is not None
    assert found.overall.value == found.by_length == pytest.approx(0.8)
    assert (found.against_length.value, found.against_length.n) == (0.0, 10)


def test_pairs_come_from_right_and_wrong_answers_to_one_problem():
    group = [
        episode("2", 1.0), episode("two", 0.8, earned=1.0, length=-0.2), episode("3", 0.0),
        episode("4", 0.0), episode("", 0.0), episode("nearly 2", 0.5), episode("3", 0.0),
    ]  # fmt: skip
    found = known_pairs([group, [episode("2", 1.0, "sums/2")]], CriticSettings(pairs_per_problem=9))
    assert {(one.right, one.wrong) for one in found} == {
        ("2", "3"), ("2", "4"), ("two", "3"), ("two", "4")
    }  # fmt: skip
    assert found[0].asked == (Message("user", "What is 1 + 1?"),)
    assert len(known_pairs([group], SETTINGS)) == 2
    assert known_pairs([group], SETTINGS, seed=3) == known_pairs([group], SETTINGS, seed=3)


def test_an_episode_with_tools_is_judged_by_all_that_happened():
    call = ToolCall("functions.add:0", "add", '{"a": 1, "b": 1}')
    done = (
        Message("user", "What is 1 + 1?"),
        Message("assistant", tool_calls=(call,)),
        Message("tool", "2", tool_call_id=call.id),
        Message("assistant", "It is 2."),
    )
    right = Trajectory("sums/1", "sums", (), done, 1.0, {}, "stop")
    (found,) = known_pairs([[right, episode("3", 0.0)]], SETTINGS)
    assert found.right == '[call] add {"a": 1, "b": 1}\n[tool] 2\n[assistant] It is 2.'


def test_a_problem_is_on_one_side_of_the_split():
    known = [*pairs(200), *pairs(200, right="quality 8")]
    train, held = split(known, SETTINGS)
    assert {one.problem for one in train} & {one.problem for one in held} == set()
    assert len(train) + len(held) == 400 and 60 <= len(held) <= 140


def test_only_the_verdict_is_learned_and_no_letter_is_more_frequent(tokenizer: Tokenizer):
    made = list(conversations(pairs(3)))
    assert [one.messages[-1].content for one in made] == ["A", "B"] * 3
    assert all(unsound(one) is None for one in made)
    for one in made:
        _, first, _ = fenced(one.messages)
        assert ("quality 9" in first) == (one.messages[-1].content == "A")
        ids, mask = render_training(one.messages, (), tokenizer)
        learned = [token for token, learn in zip(ids, mask, strict=True) if learn]
        assert learned == [*tokenizer.encode(one.messages[-1].content), tokenizer.im_end]


def test_verdicts_are_packed_into_rows_for_training(tokenizer: Tokenizer):
    known = pairs(6)
    size = max(len(render_training(one.messages, (), tokenizer)[0]) for one in conversations(known))
    found, too_long = batches(known, tokenizer, seq_len=2 * size, rows=4)
    assert [len(batch.ids_BT) for batch in found] == [4, 2] and too_long == 0
    learned = sum(float(batch.weight_BT.sum()) for batch in found)
    assert learned == 2 * 12  # a letter and the end of the turn for each question
    assert {int(doc) for batch in found for doc in np.unique(batch.doc_BT)} <= {-1, 0, 1}
    assert batches(known, tokenizer, seq_len=size // 2, rows=4) == ([], 12)


def test_what_a_critic_learned_to_read_is_what_it_is_asked():
    seen: list[Sequence[Message]] = []

    async def remembering(question: Sequence[Message]) -> float | None:
        seen.append(question)
        return await by(lambda first, second: float("quality 9" in first))(question)

    assert measured(remembering, pairs(25)).weight == 1.0
    assert {one.messages[:-1] for one in conversations(pairs(25))} == set(map(tuple, seen))
