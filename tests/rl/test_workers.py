"""Workers play the same episodes whatever their number, and a death costs only what was played."""

import asyncio
import os
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from openk2.rl.crews import LocalCrew
from openk2.rl.workers import Workers, WorkersError


class Adder:
    """Adds its weights to an item; items and settings say how it fails."""

    def __init__(self, directory: Path):
        self.total, self.version, self.directory = 0.0, 0, directory

    async def play(self, task):
        (number, how), settings = task
        await asyncio.sleep(0.001 * (number % 3))
        if how == "raise":
            raise ArithmeticError("that is no episode")
        if how == "die" or (how == "die once" and not (self.directory / "died").exists()):
            await asyncio.sleep(0.2)  # the others of this worker begin meanwhile
            (self.directory / "died").touch()
            os._exit(9)
        return number + self.total + settings, self.version

    def take(self, weights, version):
        self.total, self.version = float(weights["a"].sum() + weights["b"]), version


def workers(directory, count=2, concurrency=3):
    return Workers(LocalCrew(partial(Adder, directory)), count, concurrency)


def weights(value):
    return {"a": torch.full((3, 5), value), "b": torch.tensor(0.5, dtype=torch.float64)}


@pytest.mark.slow
def test_the_same_whatever_the_number_with_the_weights_of_the_version(tmp_path):
    items = [(i, "") for i in range(20)]
    found = []
    for count in (1, 3):
        with workers(tmp_path, count) as several:
            ended = []
            call = several(items, 100, lambda place, result, ended=ended: ended.append(place))
            assert asyncio.run(call) == [(i + 100.0, 0) for i in range(20)]
            assert sorted(ended) == list(range(20))
            several.push(weights(2.0), 7)
            found.append(several.play([(item, 0) for item in items]))
            several.push(weights(3.0), 8)  # into the same memory
            assert several.play([((1, ""), 0)]) == [(46.5, 8)]
            assert several.lost == 0
    assert found[0] == found[1] == [(i + 30.5, 7) for i in range(20)]


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_what_it_played(tmp_path):
    with workers(tmp_path, count=2, concurrency=2) as two:
        two.push(weights(1.0), 3)
        items = [(i, "die once" if i == 4 else "") for i in range(12)]
        assert two.play([(item, 0) for item in items]) == [(i + 15.5, 3) for i in range(12)]
        assert 1 <= two.lost <= 2  # it, and what shared its worker
        two.push(weights(2.0), 4)  # the successor hears of it, too
        assert two.play([((i, ""), 0) for i in range(4)]) == [(i + 30.5, 4) for i in range(4)]


@pytest.mark.slow
def test_what_cannot_be_played_ends_the_run_with_a_reason(tmp_path):
    with workers(tmp_path, 1, 1) as one, pytest.raises(WorkersError, match="no episode"):
        one.play([((0, "raise"), 0)])
    with workers(tmp_path, 1, 1) as one, pytest.raises(WorkersError, match="died 3 times"):
        one.play([((0, "die"), 0)])


@pytest.mark.slow
def test_ray_actors_play_the_same(tmp_path):
    pytest.importorskip("ray")
    from openk2.rl.crews import RayCrew

    crew = RayCrew(partial(Adder, tmp_path), "local", concurrency=2)
    with Workers(crew, 2, 2) as two:
        two.push(weights(2.0), 7)
        items = [(i, "die once" if i == 4 else "") for i in range(8)]
        assert two.play([(item, 0) for item in items]) == [(i + 30.5, 7) for i in range(8)]
        assert two.lost >= 1
    crew.ray.shutdown()


class Near:
    """A crew in this process: its workers answer at once, in turn, and die when told to."""

    def __init__(self, deaths=()):
        self.deaths, self.sent, self.hired = set(deaths), [], 0

    def hire(self):
        self.hired += 1
        worker = NearWorker(self.hired, [])
        return worker

    def hear(self, workers, seconds):
        from openk2.rl.workers import Done, Task

        for worker in sorted(workers, key=lambda worker: -len(worker.inbox)):
            if worker.number in self.deaths and any(isinstance(m, Task) for m in worker.inbox):
                return [(worker, None)]
            message = worker.inbox.pop()
            self.sent.append((worker.number, message))
            played = isinstance(message, Task)
            return [(worker, Done(message.place, message.work * 2) if played else Done(-1, None))]
        return []

    def share(self, nbytes):
        return "key", torch.zeros(nbytes, dtype=torch.uint8)

    def handle(self, key):
        return key

    def close(self):
        pass


class NearWorker:
    def __init__(self, number, inbox):
        self.number, self.inbox = number, inbox

    def send(self, message):
        self.inbox.append(message)

    def end(self):
        self.inbox.clear()


def test_the_queue_deals_evenly_and_gives_a_dead_workers_episodes_to_its_successor():
    crew = Near(deaths=[1])
    began = time.monotonic()
    with Workers(crew, 2, 3) as two:
        two.push(weights(1.0), 5)
        assert two.play(list(range(10))) == [2 * i for i in range(10)]
        assert (two.lost, two.version, crew.hired) == (3, 5, 3)
    versions = {message.version for _, message in crew.sent}
    assert versions == {5}
    assert {number for number, _ in crew.sent} == {1, 2, 3}
    with Workers(Near(deaths=range(9)), 1, 2) as one, pytest.raises(WorkersError, match="3 times"):
        one.play([1, 2])
    assert time.monotonic() - began < 5
