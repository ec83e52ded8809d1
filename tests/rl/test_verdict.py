"""Verdicts from tokens are the model's own probabilities; what cannot be asked is missing."""

from __future__ import annotations

import asyncio

import pytest
import torch

from openk2.model.transformer import Transformer
from openk2.rl.judge import judge
from openk2.rl.player import Policy
from openk2.rl.question import FIRST, SECOND, compare, mark_of
from openk2.rl.rubrics import CORE
from openk2.rl.verdict import token_verdict
from openk2.text.template import render
from openk2.text.tokenizer import Tokenizer
from tests.rl.scripted_judges import Chinese, English


def test_token_verdicts_are_what_the_model_thinks_of_the_two_letters(
    policy: Policy, tiny_policy_model: Transformer, tokenizer: Tokenizer
):
    answers = ("Boil water.", "Wait until it boils, then three minutes.")
    verdict = token_verdict(policy.source, tokenizer)
    letters = [tokenizer.encode(letter)[0] for letter in (FIRST, SECOND)]
    for problem in (English, Chinese):
        question = compare(problem.messages, *answers, CORE, mark_of(problem.messages, answers))
        ids = torch.tensor(render(question, (), tokenizer))
        with torch.no_grad():
            logits_V = tiny_policy_model.logits(tiny_policy_model(ids[None]).hidden_BTD)[0, -1]
        expected = logits_V[letters].double().softmax(0)[0].item()
        assert asyncio.run(verdict(question)) == pytest.approx(expected, abs=1e-4)
        assert expected != pytest.approx(0.5, abs=1e-3)


def test_answers_are_judged_by_the_policy_and_one_that_is_too_long_is_missing(
    policy: Policy, tokenizer: Tokenizer
):
    answers = ["Boil water.", "Boil water, wait.", "tea " * 3000]
    policy.engine.max_waiting = 1  # the others wait their turn instead of failing
    verdict = token_verdict(policy.source, tokenizer)
    found = asyncio.run(judge(verdict, English, answers))
    assert (found.asked, found.missing) == (6, 4)
    assert [(game.first, game.second) for game in found.games()] == [(0, 1)]
    scores = found.scores()
    assert scores[0] != scores[1] and scores[2] == pytest.approx(0.5)
