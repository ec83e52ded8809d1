import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.text.packing import (
    PADDING,
    Document,
    Mixture,
    PackedRows,
    Shard,
    collate,
    write_shard,
)

DOCUMENTS = st.lists(
    st.lists(st.tuples(st.integers(0, 299), st.booleans()), max_size=40), min_size=1, max_size=30
)


def shard_of(directory, documents, vocab_size=300):
    """Write documents given as lists of (id, learn)."""
    made = [Document([i for i, _ in d], [m for _, m in d], n_bytes=len(d)) for d in documents]
    write_shard(directory, made, vocab_size)
    return Shard(directory)


def numbered(directory, n_documents, length, start=0):
    """Documents whose every token is another id."""
    ids = itertools.count(start)
    documents = [[(next(ids), True) for _ in range(length)] for _ in range(n_documents)]
    return shard_of(directory, documents, vocab_size=1 << 17)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(300, "<u2"), (1 << 16, "<u2"), (70_000, "<u4")])
def test_a_shard_gives_its_documents_back(tmp_path, vocab_size, dtype):
    documents = [[(vocab_size - 1, True), (0, False)], [], [(5, False)]]
    shard = shard_of(tmp_path / "s", documents, vocab_size)
    assert shard.tokens.dtype.str == dtype
    assert shard.n_bytes == 3
    assert len(shard) == 3
    for index, document in enumerate(documents):
        ids, learn = shard.document(index)
        assert list(zip(ids.tolist(), learn.astype(bool).tolist(), strict=True)) == document


def test_a_shard_appears_complete_or_not_at_all(tmp_path):
    directory = tmp_path / "s"
    shard_of(directory, [[(1, True)]])

    def broken():
        yield Document([7, 8])
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        write_shard(directory, broken(), 300)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert Shard(directory).tokens.tolist() == [1]
    write_shard(directory, [Document([7, 8])], 300)
    assert Shard(directory).tokens.tolist() == [7, 8]


def test_what_cannot_be_stored_is_refused(tmp_path):
    with pytest.raises(ValueError, match="document 1 has an id outside"):
        write_shard(tmp_path / "s", [Document([1]), Document([300])], 300)
    with pytest.raises(ValueError, match="document 0 has a mask of another length"):
        write_shard(tmp_path / "s", [Document([1], [True, False])], 300)
    assert not (tmp_path / "s").exists()


@settings(max_examples=60)
@given(DOCUMENTS, st.integers(1, 20), st.integers(0, 3))
def test_every_token_of_every_document_is_in_exactly_one_row(
    tmp_path_factory, documents, seq_len, seed
):
    shard = shard_of(tmp_path_factory.mktemp("s"), documents)
    rows = PackedRows(shard, seq_len, seed)
    packed = Counter()
    for index in range(len(rows)):
        ids, doc, learn = rows.row(index)
        assert len(ids) == len(doc) == len(learn) == seq_len + 1
        for number in set(doc.tolist()) - {PADDING}:
            inside = doc == number
            packed[tuple(zip(ids[inside].tolist(), learn[inside].tolist(), strict=True))] += 1
    width = seq_len + 1
    expected = Counter(
        tuple(document[start : start + width])
        for document in documents
        for start in range(0, len(document), width)
    )
    assert packed == expected


@settings(max_examples=60)
@given(DOCUMENTS, st.integers(1, 20), st.sampled_from([0.0, 0.25, 1.0]))
def test_no_target_crosses_a_document_border(tmp_path_factory, documents, seq_len, prompt_weight):
    # ids that are unique in the shard: the token after an id is then known
    ids = itertools.count(1)
    named = [[(next(ids), learn) for _, learn in document] for document in documents]
    learned = {i: learn for document in named for i, learn in document}
    after = {a: b for d in named for (a, _), (b, _) in itertools.pairwise(d)}
    rows = PackedRows(shard_of(tmp_path_factory.mktemp("s"), named, 2000), seq_len)
    if not len(rows):
        return
    batch = collate([rows.row(i) for i in range(len(rows))], prompt_weight)
    assert batch.ids_BT.shape == batch.weight_BT.shape == (len(rows), seq_len)
    seen = 0
    for token, doc, target, weight in zip(
        batch.ids_BT.flat, batch.doc_BT.flat, batch.target_BT.flat, batch.weight_BT.flat,
        strict=True,
    ):  # fmt: skip
        if weight:
            assert after[int(token)] == target
            assert weight == (1.0 if learned[int(target)] else prompt_weight)
            assert doc != PADDING
            seen += 1
    if prompt_weight:
        cuts = sum(-(-len(d) // (seq_len + 1)) for d in named)
        assert seen == sum(map(len, named)) - cuts


def test_packing_wastes_little(tmp_path):
    rng = np.random.default_rng(0)
    documents = [[(1, True)] * int(n) for n in rng.integers(5, 200, 400)]
    rows = PackedRows(shard_of(tmp_path / "s", documents), 255)
    assert len(rows) <= 1.02 * np.ceil(sum(map(len, documents)) / 256)


def first_ids(batch):
    return batch.ids_BT[:, 0].tolist()


def test_an_epoch_shows_every_row_once_and_the_next_one_in_another_order(tmp_path):
    rows = PackedRows(numbered(tmp_path / "s", 50, 4), 3)
    mixture = Mixture({"a": (rows, 1.0)}, seed=3)
    epochs = [first_ids(mixture.batch(start, 50)) for start in (0, 50)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(0, 200, 4))
    assert epochs[0] != epochs[1]


def test_a_batch_depends_on_seed_and_row_number_alone(tmp_path):
    def fresh(seed):
        sources = {
            "a": (PackedRows(numbered(tmp_path / "a", 30, 4), 3), 3.0),
            "b": (PackedRows(numbered(tmp_path / "b", 20, 4, 1000), 3), 1.0),
        }
        return Mixture(sources, seed=seed)

    straight = fresh(1)
    rows = [i for start in range(0, 60, 6) for i in first_ids(straight.batch(start, 6))]
    later = fresh(1)
    assert first_ids(later.batch(42, 18)) == rows[42:]
    assert first_ids(later.batch(0, 42)) == rows[:42]
    assert first_ids(fresh(2).batch(0, 60)) != rows


def test_sources_are_mixed_by_weight(tmp_path):
    sources = {
        name: (PackedRows(numbered(tmp_path / name, 7, 4, start), 3), weight)
        for name, start, weight in (("a", 0, 6.0), ("b", 1000, 3.0), ("c", 2000, 1.0))
    } | {"none": (PackedRows(numbered(tmp_path / "d", 7, 4, 3000), 3), 0.0)}
    mixture = Mixture(sources)
    assert mixture.names == ("a", "b", "c")
    counts = Counter(first // 1000 for first in first_ids(mixture.batch(0, 4096)))
    assert counts == {0: 2458, 1: 1229, 2: 409}
    early = Counter(first // 1000 for first in first_ids(mixture.batch(0, 400)))
    assert 190 < early[0] < 290


def test_a_source_of_tiny_weight_is_still_seen(tmp_path):
    sources = {
        "a": (PackedRows(numbered(tmp_path / "a", 3, 4), 3), 1.0),
        "b": (PackedRows(numbered(tmp_path / "b", 3, 4, 1000), 3), 1e-9),
    }
    assert max(first_ids(Mixture(sources).batch(0, 4096))) >= 1000


def test_an_empty_mixture_is_refused(tmp_path):
    rows = PackedRows(numbered(tmp_path / "a", 0, 4), 3)
    with pytest.raises(ValueError, match="the mixture is empty"):
        Mixture({"a": (rows, 1.0)})
