"""The compiled runner against its slow twin, and against itself: the same bits in any company."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from openk2.engine.compiled import CompiledRunner
from openk2.engine.runner import BLOCK, Batch, TorchRunner
from openk2.kernels.cpu import team
from openk2.kernels.stored import FloatMatrix, Int4Matrix, dense
from openk2.model import mapped
from openk2.model.checkpoint import Checkpoint
from openk2.model.tiled import tile_model
from tests.kernels.test_cpu_products import round_to_int8
from tests.model.test_tiled import FORMS, SHAPES, TINY, write

POISON = 7
"""An id whose embedding is NaN."""
BLOCKS = 64
LENGTH = 290
"""Tokens of the long prompt: more than the 256 keys that attention takes at once."""
forms = pytest.mark.parametrize("form", FORMS)


def ids_of(seed, length, config=TINY):
    drawn = np.random.default_rng(seed).integers(0, config.vocab_size, length)
    return np.where(drawn == POISON, 0, drawn).astype(np.int32)


def batch(*sequences, wanted=None):
    """Build a batch of (ids, first position, blocks) each."""
    array = lambda values: np.array(list(values), np.int32)  # noqa: E731
    width = max(len(blocks) for _, _, blocks in sequences)
    ids = [int(id) for ids, _, _ in sequences for id in ids]
    return Batch(
        array(ids),
        array(p for ids, start, _ in sequences for p in range(start, start + len(ids))),
        array(s for s, (ids, _, _) in enumerate(sequences) for _ in ids),
        np.array([[*b, *[-1] * (width - len(b))] for _, _, b in sequences], np.int32),
        array(range(len(ids)) if wanted is None else wanted),
    )


def blocks_of(length, seed=None):
    """Return enough blocks, scattered over the cache."""
    order = np.random.default_rng(seed).permutation(BLOCKS) if seed is not None else range(BLOCKS)
    return [int(block) for block in order][: -(-length // BLOCK)]


def compiled(model, threads=1):
    runner = CompiledRunner(model, max_positions=1024, threads=threads)
    runner.allocate(BLOCKS)
    return runner


def slow(checkpoint):
    runner = TorchRunner(mapped.map_model(checkpoint))
    runner.allocate(BLOCKS)
    return runner


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    """Return the tiled model of each form, in which one embedding is NaN."""
    found = {}

    def of(form):
        if form not in found:
            root = tmp_path_factory.mktemp(form)
            found[form] = tile_model(Checkpoint(write(root, TINY, form, poison=[POISON])))
        return found[form]

    return of


# Against the slow twin


def steps(config):
    """Feed two sequences in three ragged batches."""
    one, two = ids_of(1, 40, config), ids_of(2, 30, config)
    at = [9, 3, 12], [4, 11, 5]
    return [
        batch((one[:17], 0, at[0]), (two[:5], 0, at[1])),
        batch((two[5:6], 5, at[1]), (one[17:], 17, at[0])),
        batch((two[6:], 6, at[1]), wanted=[0, 3, 23]),
    ]


def errors(runner, twin, config, steps):
    """Return the error of every row of logits, as parts of the largest logit."""
    found = []
    for step in steps:
        logits, expected = runner.forward(step), twin.forward(step)
        assert logits.shape == expected.shape == (len(step.wanted_O), config.vocab_size)
        assert logits.dtype == np.float32
        found.append(np.abs(logits - expected).max(1) / np.abs(expected).max())
    return np.concatenate(found)


@pytest.mark.parametrize("form", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_float_weights_give_the_twins_logits(shape, form, tmp_path):
    config = SHAPES[shape]
    checkpoint = Checkpoint(write(tmp_path, config, form))
    found = errors(compiled(tile_model(checkpoint)), slow(checkpoint), config, steps(config))
    assert found.max() < 1e-5


def rounding_linear(x_TN, matrix, scratch):
    """Multiply as the mapped model does, activations for INT4 weights rounded to int8 before."""
    if isinstance(matrix, Int4Matrix):
        values, scales, _ = round_to_int8(x_TN.flatten(0, -2).numpy())
        x_TN = torch.from_numpy(values * np.repeat(scales, 32, 1)).view(x_TN.shape)
    return EXACT_LINEAR(x_TN, matrix, scratch)


EXACT_LINEAR = mapped.linear


@pytest.mark.parametrize("form", ["int4", "int4-all"])
@pytest.mark.parametrize("shape", SHAPES)
def test_int4_weights_give_the_logits_of_rounded_activations(shape, form, tmp_path, monkeypatch):
    config = SHAPES[shape]
    checkpoint = Checkpoint(write(tmp_path, config, form))
    model, exact, rounding = tile_model(checkpoint), slow(checkpoint), slow(checkpoint)
    for layer in rounding.model.layers:  # its halves are kept in bfloat16
        up = layer.self_attn.kv_b_proj
        up.matrix = FloatMatrix(dense(up.matrix).bfloat16().float())
    # Short sequences: a value half-way between two steps may go the other way, and then a token to
    # another expert, which every later token of its sequence sees.
    short = [batch(*((ids_of(i, 3, config), 0, [i]) for i in range(30)))]
    of_rounding = errors(compiled(model), exact, config, short)
    monkeypatch.setattr(mapped, "linear", rounding_linear)
    found = errors(compiled(model), rounding, config, short)
    assert np.quantile(found, 0.6) < 1e-5
    if form == "int4-all" or config.first_k_dense_replace < config.num_hidden_layers:
        assert 1e-4 < np.median(of_rounding) < 0.1


# Against itself: the same bits


@pytest.fixture(scope="module")
def whole(tiled):
    """Return the logits of the long prompt in one batch, for each form."""
    found = {}

    def of(form):
        if form not in found:
            step = batch((ids_of(0, LENGTH), 0, blocks_of(LENGTH)))
            found[form] = compiled(tiled(form)).forward(step).copy()
            assert np.isfinite(found[form]).all()
        return found[form]

    return of


def in_chunks(runner, ids, sizes, blocks):
    logits, start = [], 0
    while start < len(ids):
        size = sizes[len(logits) % len(sizes)]
        logits.append(runner.forward(batch((ids[start : start + size], start, blocks))).copy())
        start += size
    return np.concatenate(logits)


@forms
@pytest.mark.parametrize("sizes", [[1], [7], [16], [33, 1, 2, 3], [255, 2, 33], [289, 1]], ids=str)
def test_chunked_equals_whole(form, sizes, tiled, whole):
    runner, ids = compiled(tiled(form)), ids_of(0, LENGTH)
    assert np.array_equal(in_chunks(runner, ids, sizes, blocks_of(LENGTH, 1)), whole(form))


def poison(runner, blocks=range(BLOCKS)):
    """Leave NaN in all lanes of some blocks, as a sequence of damaged tokens does."""
    blocks = list(blocks)
    logits = runner.forward(batch(([POISON] * (BLOCK * len(blocks)), 0, blocks), wanted=[0, 15]))
    assert np.isnan(logits).all()


@forms
def test_in_company_over_recycled_blocks_equals_alone(form, tiled, whole):
    runner, ids = compiled(tiled(form)), ids_of(0, LENGTH)
    poison(runner)
    order = np.random.default_rng(3).permutation(BLOCKS).tolist()
    mine, others = order[:19], [order[19:32], order[32:45], order[45:]]
    start, at, found = 0, [0, 0, 0], []
    for size in [1, 5, 16, 1, 40, 100, 1, 1, 25, 64, 36]:
        company = []
        for i, blocks in enumerate(others):
            count = (3 * start + 7 * i + size) % 23
            company.append((ids_of(i, count) if i else [POISON] * count, at[i], blocks))
            at[i] += count
        position = len(company[0][0]) + len(company[1][0])
        wanted = range(position, position + size)
        own = (ids[start : start + size], start, mine)
        step = batch(*company[:2], own, company[2], wanted=wanted)
        found.append(runner.forward(step).copy())
        start += size
    assert start == LENGTH
    assert np.array_equal(np.concatenate(found), whole(form))


@forms
def test_wanted_anywhere_gives_the_same_rows(form, tiled, whole):
    runner, ids = compiled(tiled(form)), ids_of(0, LENGTH)
    for wanted in ([], [0], [1, 2, 100, 288], [289], list(range(3, 280, 9))):
        found = runner.forward(batch((ids, 0, blocks_of(LENGTH, 4)), wanted=wanted))
        assert np.array_equal(found, whole(form)[wanted])


@forms
def test_a_rejected_draft_leaves_no_trace(form, tiled, whole):
    runner, ids, blocks = compiled(tiled(form)), ids_of(0, LENGTH), blocks_of(LENGTH, 5)
    runner.forward(batch((ids[:250], 0, blocks)))
    for start in range(250, 280, 3):
        draft = [ids[start], ids[start + 1], POISON, POISON, 3, *[POISON] * 9]
        found = runner.forward(batch((draft, start, blocks)))
        assert np.array_equal(found[:2], whole(form)[start : start + 2])
        assert np.isnan(found[2:]).all()
        found = runner.forward(batch((ids[start + 2 : start + 3], start + 2, blocks)))
        assert np.array_equal(found[0], whole(form)[start + 2])


class Drilled(CompiledRunner):
    """Its helpers come when the test calls them, all of them, and never by themselves."""

    def _wake_helpers(self):
        pass

    def _judge(self, used, began):
        self.used = used

    def with_all_threads(self, step):
        """Run one batch on every thread, and not only on those that happen to be awake.

        The helpers are called before they have begun to listen: they come all the same.
        """
        listening = []
        for index in range(len(self._wake)):
            slot = self._slot(index)
            slot[0], slot[3] = team.READY, 2**62
            arguments = (*self._arguments(index + 1), 0, slot.ctypes.data)
            listening.append(threading.Thread(target=self._run, args=arguments))
        logits = []
        caller = threading.Thread(target=lambda: logits.append(self.forward(step).copy()))
        caller.start()
        time.sleep(0.001)
        for helper in listening:
            helper.start()
        for thread in (caller, *listening):
            thread.join()
        assert self.used == self._threads
        return logits[0]


def drilled(model, threads):
    runner = Drilled(model, max_positions=1024, threads=threads)
    runner.allocate(BLOCKS)
    return runner


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("form", "threads"), [("float32", 2), ("bfloat16", 3), ("int4", 2), ("int4-all", 2)]
)
def test_any_number_of_threads_gives_the_same_bits(form, threads, tiled, whole):
    runner, ids, blocks = drilled(tiled(form), threads), ids_of(0, LENGTH), blocks_of(LENGTH, 6)
    poison(runner)
    start = 0
    for size in [1, 29, 2, 100, 133, 1, 1]:
        step = batch((ids[start : start + size], start, blocks))
        assert np.array_equal(runner.with_all_threads(step), whole(form)[start : start + size])
        start += size


@pytest.mark.timeout(60)
def test_threads_that_write_one_block_side_by_side_do_not_disturb_each_other(tiled, whole):
    """The second thread's first token often lies in the block that the first one begins."""
    runner, ids = drilled(tiled("float32"), 2), ids_of(0, LENGTH)
    for length in range(2, 32, 2):
        found = runner.with_all_threads(batch((ids[:length], 0, [5, 9])))
        assert np.array_equal(found, whole("float32")[:length])


# Damage


@forms
def test_damage_stays_in_its_sequence(form, tiled, whole):
    runner, ids = compiled(tiled(form)), ids_of(0, LENGTH)
    damaged = (*ids_of(1, 5), POISON, *ids_of(2, 6))
    alone = runner.forward(batch((damaged, 0, [2]))).copy()
    assert np.isfinite(alone[:5]).all() and np.isnan(alone[5:]).all()
    at = blocks_of(60, 7)
    step = batch((damaged, 0, [50]), (ids[:60], 0, at), (damaged, 0, [51]))
    found = runner.forward(step)
    assert np.array_equal(found[12:72], whole(form)[:60])
    assert np.array_equal(found[:12], alone, equal_nan=True)
    assert np.array_equal(found[72:], alone, equal_nan=True)
    # The same buffers and, the other way round, the same blocks.
    poison(runner, at[:4])
    found = runner.forward(batch((ids[:64], 0, [*at[2:4], 50, 51])))
    assert np.array_equal(found, whole(form)[:64])
    found = runner.forward(batch((ids[:1], 0, [at[0]])))
    assert np.array_equal(found, whole(form)[:1])


@pytest.mark.parametrize("name", ["gate.weight", "experts.2.down_proj.weight"])
def test_a_weight_that_is_no_number_shows_and_does_not_stay(name, tmp_path):
    from safetensors.torch import load_file, save_file

    config = replace(TINY, num_experts_per_tok=6)
    directory = write(tmp_path, config, "float32")
    file = directory / "model.safetensors"
    state = load_file(file)
    state[f"model.layers.2.mlp.{name}"][:] = torch.nan
    save_file(state, file)
    model = tile_model(Checkpoint(directory))
    runner = compiled(model)
    assert np.isnan(runner.forward(batch((ids_of(0, 20), 0, [1, 2])))).all()
    layer = model.layers.copy()
    model.layers[2] = layer[1]  # the weights of a layer that is whole
    model.layers["index"] = range(3)
    assert np.isfinite(runner.forward(batch((ids_of(0, 20), 0, [1, 2])))).all()


# The life of a runner


def test_new_blocks_are_zero_and_larger_buffers_change_nothing(tiled, whole):
    runner, ids = compiled(tiled("bfloat16")), ids_of(0, LENGTH)
    assert runner.block_bytes() == 3 * BLOCK * (64 + 16) * 4
    for blocks in (1, 3, 19, 64):
        runner.allocate(blocks)
        length = min(LENGTH, BLOCK * blocks)
        found = runner.forward(batch((ids[:length], 0, list(range(blocks))[:19])))
        assert np.array_equal(found, whole("bfloat16")[:length])
    first = runner.forward(batch((ids[:5], 0, [3])))
    assert np.shares_memory(first, runner.forward(batch((ids[:5], 0, [3]))))


def helpers():
    return [t for t in threading.enumerate() if t.name.startswith("openk2-cpu-")]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("threads", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_helpers_come_and_go_without_a_deadlock(threads, tiled, whole):
    before = len(helpers())
    runner, ids = compiled(tiled("int4"), threads), ids_of(0, LENGTH)
    rng = np.random.default_rng(threads)
    for turn in range(60):
        length = int(rng.integers(1, 90 if turn % 10 else LENGTH))
        if turn % 17 == 3:
            runner.allocate(BLOCKS + turn % 5)
        found = runner.forward(batch((ids[:length], 0, blocks_of(length, turn))))
        assert np.array_equal(found, whole("int4")[:length]), turn
        if turn % 3 == 0:
            time.sleep(float(rng.choice([0.0, 0.0005, 0.002, 0.01])))
    assert len(helpers()) - before == threads - 1
    runner.close()
    assert len(helpers()) == before
    found = runner.forward(batch((ids[:40], 0, blocks_of(40))))
    assert np.array_equal(found, whole("int4")[:40])
    runner.close()


@pytest.mark.timeout(60)
def test_closing_at_once_and_without_any_work(tiled):
    before = len(helpers())
    for forwards in (0, 1, 2):
        runner = compiled(tiled("float32"), 2)
        for _ in range(forwards):
            runner.forward(batch(([1, 2], 0, [0])))
        runner.close()
    assert len(helpers()) == before


@pytest.mark.timeout(60)
def test_two_runners_of_one_model_do_not_meet(tiled, whole):
    runners = [compiled(tiled("float32"), 2) for _ in range(2)]
    ids, wrong = ids_of(0, LENGTH), []

    def work(runner, seed):
        for turn in range(30):
            length = 1 + (seed + 13 * turn) % 80
            found = runner.forward(batch((ids[:length], 0, blocks_of(length, turn))))
            if not np.array_equal(found, whole("float32")[:length]):
                wrong.append((seed, turn))

    whole("float32")
    threads = [
        threading.Thread(target=work, args=pair) for pair in zip(runners, (0, 5), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for runner in runners:
        runner.close()
    assert wrong == []


# Other instruction sets

ELSEWHERE = """
import sys
from pathlib import Path
import numpy as np
from openk2.kernels.cpu.build import kernels
from openk2.model.checkpoint import Checkpoint
from openk2.model.tiled import tile_model
from tests.engine.test_compiled import LENGTH, batch, blocks_of, compiled, ids_of
out, *directories = sys.argv[1:]
step = batch((ids_of(0, LENGTH), 0, blocks_of(LENGTH)))
found = [compiled(tile_model(Checkpoint(Path(d)))).forward(step).copy() for d in directories]
np.save(out, np.array(found))
assembly = kernels().multiply._library.get_asm_str()
print(*(word for word in ("zmm", "ymm", "vpdpbusd", "vpmaddubsw") if word in assembly))
"""
MACHINES = {
    "AVX-512 without VNNI": (
        "skylake-avx512",
        "+avx2,+fma,+avx512f,+avx512bw,+avx512vl,+avx512dq",
        {"zmm", "ymm", "vpmaddubsw"},
    ),
    "AVX2": ("haswell", "+avx2,+fma", {"ymm", "vpmaddubsw"}),
    "AVX2, not known to the byte product": ("haswell", "+fma", {"ymm"}),
    "x86-64 of 2003": ("x86-64", "+sse2", set()),
}


def elsewhere(tmp_path, directories, cpu):
    """Compute in a new process that compiles for another processor; return bits and words."""
    environment = dict(os.environ)
    environment.pop("NUMBA_CPU_NAME", None)
    environment.pop("NUMBA_CPU_FEATURES", None)
    if cpu:
        environment |= {"NUMBA_CPU_NAME": cpu[0], "NUMBA_CPU_FEATURES": cpu[1]}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path / "out.npy"), *map(str, directories)],
        env=environment,
        capture_output=True,
        text=True,
        cwd=Path.cwd(),
    )
    assert done.returncode == 0, done.stderr
    return np.load(tmp_path / "out.npy").view(np.int32), set(done.stdout.split())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names x86 processors")
@pytest.mark.parametrize("name", MACHINES)
def test_every_instruction_set_gives_the_same_bits(name, tmp_path):
    directories = []
    for form in FORMS:
        (tmp_path / form).mkdir()
        directories.append(write(tmp_path / form, TINY, form))
    step = batch((ids_of(0, LENGTH), 0, blocks_of(LENGTH)))
    here = [compiled(tile_model(Checkpoint(d))).forward(step).copy() for d in directories]
    cpu, features, words = MACHINES[name]
    found, used = elsewhere(tmp_path, directories, (cpu, features))
    assert used == words
    assert np.array_equal(found, np.array(here).view(np.int32))
