"""Shards on several ranks become all weights on each of them, a few buckets at a time."""

import multiprocessing
import os
import time

import pytest
import torch
import torch.distributed as dist

from openk2.engine.engine import Engine
from openk2.engine.replace import MixedWeightsError
from openk2.engine.runner import TorchRunner
from openk2.model.transformer import Transformer
from openk2.rl.broadcast import BroadcastError, broadcast, plan, shard_of
from openk2.rl.sync import replace
from openk2.types import Sampling
from tests.engine.conftest import TINY

BUCKET = 1 << 14
PATIENCE = 8.0


def model_of(seed):
    model = Transformer(TINY)
    model.reset_parameters(torch.Generator().manual_seed(seed))
    return model


def engine_of(seed):
    return Engine(TorchRunner(model_of(seed)), max_batch=1, max_len=64, stop_ids=frozenset())


def answer(engine):
    sampling = Sampling(temperature=0.0, max_tokens=6)
    return [(token.id, token.logprob) for token in engine.generate([1, 2, 3], sampling)]


def dying(shard, rank, after):
    """Yield what is broadcast; one rank ends without a word when so many tensors have come."""
    stream = broadcast(shard, bucket_bytes=BUCKET, timeout=PATIENCE)
    for count, pair in enumerate(stream):
        if rank == 1 and count == after:
            os._exit(1)
        yield pair


def take_part(rank, ranks, store, results, dies_after):
    """Be one rank: own a shard of the weights of seed 2, serve those of seed `rank + 10`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=ranks)
    engine = engine_of(rank + 10)
    shard = shard_of(model_of(2).state_dict(), rank, ranks)
    began = time.monotonic()
    try:
        replace(dying(shard, rank, dies_after), engine)
    except MixedWeightsError as error:
        results.put((rank, repr(error.__cause__), time.monotonic() - began))
        os._exit(0)  # the group cannot be left in good order any more
    results.put((rank, answer(engine), len(shard)))
    dist.destroy_process_group()


def start(ranks, tmp_path, dies_after=-1):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["openk2.rl.actor"])
    results = context.Queue()
    arguments = ranks, str(tmp_path / "store"), results, dies_after
    processes = [context.Process(target=take_part, args=(r, *arguments)) for r in range(ranks)]
    for process in processes:
        process.start()
    alive = ranks - (dies_after >= 0)
    found = sorted((results.get(timeout=120) for _ in range(alive)), key=lambda found: found[0])
    for process in processes:
        process.join(30)
        assert process.exitcode is not None
    return found


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_every_rank_serves_all_weights(ranks, tmp_path):
    found = start(ranks, tmp_path)
    assert [answers for _, answers, _ in found] == [answer(engine_of(2))] * ranks
    owned = [count for *_, count in found]
    assert sum(owned) == len(model_of(2).state_dict()) and min(owned) > 0


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_others_soon_with_an_error_that_says_so(tmp_path):
    for _, error, seconds in start(3, tmp_path, dies_after=20):
        assert "another rank has died or hangs" in error
        assert seconds < 3 * PATIENCE


@pytest.fixture
def alone(tmp_path):
    """A group of one rank in this process."""
    dist.init_process_group("gloo", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_one_rank_gets_its_own_weights_through_three_buckets(alone, monkeypatch):
    weights = model_of(2).state_dict()
    sizes, empty = [], torch.empty

    def counted(*args, **settings):
        made = empty(*args, **settings)
        sizes.append(made.nbytes if made.dtype == torch.uint8 else 0)
        return made

    monkeypatch.setattr(torch, "empty", counted)
    taken = {name: tensor.clone() for name, tensor in broadcast(weights, bucket_bytes=BUCKET)}
    monkeypatch.undo()
    assert list(taken) == list(weights)
    assert all(torch.equal(taken[name], weights[name]) for name in weights)
    largest = max(tensor.nbytes for tensor in weights.values())
    assert sum(sizes) <= 3 * max(BUCKET, largest) < sum(t.nbytes for t in weights.values())
    engine = engine_of(3)
    replace(broadcast(weights, bucket_bytes=BUCKET), engine)
    assert answer(engine) == answer(engine_of(2))


def test_buckets_are_full_and_owners_take_turns():
    kind = torch.float32
    shards = [{f"{rank}.{i}": ((25,), kind) for i in range(5)} for rank in range(2)]
    shards.append({"large": ((1000,), torch.bfloat16), "none": ((0,), kind)})
    buckets = plan(shards, bucket_bytes=256)
    assert [bucket.owner for bucket in buckets] == [0, 1, 2, 0, 1, 2, 0, 1][: len(buckets)]
    assert all(b.nbytes <= 256 or len(b.items) == 1 for b in buckets)
    named = [item.name for bucket in buckets for item in bucket.items]
    assert sorted(named) == sorted(name for shard in shards for name in shard)
    for bucket in buckets:
        ends = [item.start + item.nbytes for item in bucket.items]
        assert all(item.start % 16 == 0 for item in bucket.items)
        assert all(end <= item.start for end, item in zip(ends, bucket.items[1:], strict=False))
    with pytest.raises(BroadcastError, match=r"0\.0 is in the shards of rank 0 and rank 1"):
        plan([shards[0], shards[0]], bucket_bytes=256)


def test_shards_are_of_about_one_size_and_hold_everything_once():
    weights = model_of(1).state_dict()
    shards = [shard_of(weights, rank, 3) for rank in range(3)]
    assert sorted(name for shard in shards for name in shard) == sorted(weights)
    loads = [sum(tensor.nbytes for tensor in shard.values()) for shard in shards]
    assert max(loads) - min(loads) <= max(tensor.nbytes for tensor in weights.values())
