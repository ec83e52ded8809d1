"""What training reads is what the engine read and wrote, token for token, pauses or not."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.model import ModelRequest, ask
from openk2.gym.problem import Family, Played, Problem
from openk2.gym.world_draw import WorldDraw
from openk2.gym.worlds import Worlds
from openk2.rl.player import RolloutConfig
from openk2.rl.repetition import LoopDetector
from openk2.rl.rollout import EpisodeError, Item, mask, mismatch, rollout, rollouts
from openk2.rl.sync import push
from openk2.text.template import render
from openk2.types import Message
from tests.rl.conftest import policy_of

WARM = RolloutConfig(temperature=0.8)
TALK = Problem("talk/1", "talk", "1", (Message("user", "Say something."),), max_tokens=40)


@dataclass
class Talk(Family):
    """Asks three times, whatever is said; the answer is right if it is long."""

    name: str = "talk"
    rewrite: bool = False
    """Whether the second turn is put as if the model had said something else."""

    async def play(self, model, problem, sampling):
        messages = problem.messages
        for _ in range(3):
            reply = await ask(model, ModelRequest(messages, problem.tools, sampling=sampling))
            said = Message("assistant", "Yes.") if self.rewrite else reply.message
            messages = (*messages, said, Message("user", "Go on."))
        return Played(messages[len(problem.messages) :], reply.finish, reply.usage)

    def score(self, problem, messages):
        if problem.meta.get("broken"):
            raise ZeroDivisionError("the scorer divides by nothing")
        return {"reward": float(sum(len(one.content) for one in messages) > 40)}


@pytest.fixture(scope="module")
def world():
    return Worlds(WorldDraw(domains=("calendar",)))


@pytest.fixture(scope="module")
def task(world):
    return replace(next(world.problems(0)), max_tokens=70)


@pytest.fixture(scope="module")
def watched(policy, world, task):
    """An episode, and what the engine computed for it as {position: token}."""
    runner, places = policy.engine._runner, {}
    forward = runner.forward

    def watch(batch):
        for position, token in zip(batch.position_T.tolist(), batch.ids_T.tolist(), strict=True):
            assert places.setdefault(position, token) == token, "a place has two tokens"
        return forward(batch)

    runner.forward = watch
    try:
        return asyncio.run(rollout(policy, world, task, WARM, seed=3)), places
    finally:
        runner.forward = forward


@pytest.fixture(scope="module")
def episode(watched):
    return watched[0]


def ids_of(trajectory):
    return mask(trajectory).ids_T.tolist()


def test_the_segments_of_a_tool_episode_are_what_the_engine_saw(watched, task, tokenizer):
    episode, seen = watched
    ids = ids_of(episode)
    assert seen == dict(enumerate(ids[: len(seen)])) and len(ids) - len(seen) <= 1
    roles = [message.role for message in episode.messages]
    assert roles.count("assistant") > 1 and "tool" in roles
    # What the policy wrote is not what the tokenizer would make of it.
    prompt = render(task.messages, task.tools, tokenizer)
    assert ids[: len(prompt)] == prompt
    assert render(episode.messages, task.tools, tokenizer, generation_prompt=False) != ids
    text = b"".join(map(tokenizer.token_bytes, ids[len(prompt) :])).decode("utf-8", "replace")
    results = [message.content for message in episode.messages if message.role == "tool"]
    assert all(result in text for result in results)
    assert episode.parts["tokens"] <= task.max_tokens
    assert episode.parts["reward"] == episode.reward


def test_a_forward_pass_agrees_with_what_was_served(episode, tiny_policy_model):
    flat = mask(episode)
    with torch.no_grad():
        hidden_BTD, *_ = tiny_policy_model(torch.tensor(flat.ids_T[None]))
        logits_TV = tiny_policy_model.logits(hidden_BTD)[0].float()
    logprob_TV = torch.log_softmax(logits_TV / WARM.temperature, -1).numpy()
    at_N = np.flatnonzero(flat.loss_T)
    fresh_N = logprob_TV[at_N - 1, flat.ids_T[at_N]]
    found = mismatch([episode], [fresh_N])
    assert found["max"] < 1e-3 and found["mean"] < 1e-4 and 0 <= found["kl"] < 1e-6
    assert mismatch([episode], [fresh_N - 0.5])["mean"] == pytest.approx(0.5, abs=1e-3)
    # A grammar only makes what it leaves likelier; where nothing was left out, it changes nothing.
    kept_N = (flat.own_T - flat.logprob_T)[at_N]
    assert kept_N.max() < 1e-6 and (kept_N < -1).any() and (kept_N > -1e-3).any()
    assert not flat.logprob_T[~flat.loss_T].any()


def test_a_seed_fixes_an_episode(policy):
    one, again, other = (
        asyncio.run(rollout(policy, Talk(), TALK, WARM, seed)) for seed in (3, 3, 4)
    )
    assert (ids_of(again), again.messages) == (ids_of(one), one.messages)
    assert ids_of(other) != ids_of(one)


def test_an_episode_that_was_paused_is_the_same(policy, world, task, episode, tiny_policy_model):
    config, found = replace(WARM, pause_after=20), None
    for _ in range(1 + task.max_tokens // 20):
        found = asyncio.run(rollout(policy, world, task, config, 3, found))
        if found.finish != "cancelled":
            break
        assert (found.reward, dict(found.parts)) == (0.0, {})
        push(tiny_policy_model, policy.source)  # the same weights, under the next version
    assert ids_of(found) == ids_of(episode)
    assert (found.messages, found.finish) == (episode.messages, episode.finish)
    assert (found.reward, found.parts) == (episode.reward, episode.parts)
    assert np.allclose(mask(found).logprob_T, mask(episode).logprob_T, atol=1e-4)
    versions = {segment.version for segment in found.segments if segment.emitted}
    assert len(versions) >= 3
    longest = max(sum(s.emitted * len(s.ids) for s in found.segments if s.version == v)
                  for v in versions)  # fmt: skip
    assert longest <= 20


def test_an_episode_whose_surroundings_changed_is_not_gone_on_with(policy):
    paused = asyncio.run(rollout(policy, Talk(), TALK, RolloutConfig(pause_after=5), 0))
    changed = replace(TALK, messages=(Message("user", "Say something else."),))
    with pytest.raises(EpisodeError, match="not what it was before the pause"):
        asyncio.run(rollout(policy, Talk(), changed, RolloutConfig(), 0, paused))


def test_the_budget_ends_an_episode(policy):
    found = asyncio.run(rollout(policy, Talk(), replace(TALK, max_tokens=7), WARM, 1))
    assert found.finish == "length" and found.parts["tokens"] == 7
    assert sum(mask(found).loss_T) == 7


def test_a_failed_episode_costs_only_itself(policy):
    broken = replace(TALK, id="talk/2", meta={"broken": True})
    order = [(Talk(), TALK), (Talk(), broken), (Talk(rewrite=True), TALK), (Talk(), TALK)]
    items = [Item(family, problem, seed) for seed, (family, problem) in enumerate(order)]
    told: dict[int, object] = {}
    found = asyncio.run(rollouts(policy, items, WARM, 2, told.__setitem__))
    assert found == [told[place] for place in range(4)]
    alone = asyncio.run(rollout(policy, Talk(), TALK, WARM, 3))
    assert ids_of(found[3]) == ids_of(alone)
    assert isinstance(found[1], EpisodeError) and "divides by nothing" in str(found[1])
    assert isinstance(found[2], EpisodeError) and "rewrites" in str(found[2])


def test_a_loop_ends_an_episode(tiny_policy_model, tokenizer):
    model = copy.deepcopy(tiny_policy_model)
    with torch.no_grad():
        model.lm_head.weight[100, 0] = 200
    with policy_of(model, tokenizer) as stuck:
        config = RolloutConfig(loop_tokens=12)
        found = asyncio.run(rollout(stuck, Talk(), TALK, config, 0))
    assert (found.finish, found.parts["looped"], found.parts["tokens"]) == ("length", 1.0, 13.0)


@given(st.lists(st.integers(0, 2), max_size=60), st.integers(1, 4), st.integers(1, 12))
def test_a_loop_is_found_where_it_closes(ids, periods, tokens):
    detector = LoopDetector(periods, tokens, rounds=2)
    for end in range(1, len(ids) + 1):
        closes = any(
            end - period >= needed
            and ids[end - needed : end] == ids[end - needed - period : end - period]
            for period in range(1, periods + 1)
            for needed in [max(tokens, 2 * period)]
        )
        assert detector.looped(ids[end - 1]) == closes
    assert not LoopDetector(0, 1).looped(1)
