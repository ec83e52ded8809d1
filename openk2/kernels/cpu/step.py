"""One forward pass of the whole model, compiled: ids in, logits out, nothing of Python between.

In: addresses of tiled weights, of the paged latent cache and of buffers; a ragged batch of tokens.
Out: latents in the cache, logits in a buffer. `docs/concepts/engine.md` draws the phases.
Must not know: requests, sampling, or where weights come from.

Every thread runs `forward`; `thread` is its number. Between barriers threads own disjoint outputs:
rows of a weight matrix, heads, or tokens. With a single token, what is done per token is done by
every thread in buffers of its own, which costs less than waiting for one another.

Shapes: T tokens, D width, H heads, n unrotated, r rotary and v value width of a head, C latent
width, R = C + r, E experts, K experts per token, I inner width, P (token, expert) pairs.
"""

from __future__ import annotations

import math

import numpy as np

from openk2.kernels.cpu.attention import PART, TILES, transpose_tile
from openk2.kernels.cpu.memory import (
    call_10,
    call_14,
    compiled,
    read_f32,
    read_i32,
    read_i64,
    write_f32,
    write_i64,
)
from openk2.kernels.cpu.products import FLOAT32, INT4, tile_bytes
from openk2.kernels.cpu.rows import (
    add_scaled_row,
    clear_row,
    copy_row,
    expect,
    norm_row,
    quantize_part,
    scale_row,
    sigmoid_16,
    store_latent,
    swiglu_32,
    widen_row,
)
from openk2.kernels.cpu.team import await_go, barrier, gather

HEADS_UP = 1536
"""Bytes of the next expert that are asked for while one is computed."""
ROWS = 8
"""Tokens of one expert that are computed side by side."""


def _record(*integers: str, floats: tuple[str, ...] = ()) -> np.dtype:
    """A structure of int64 and float64 that compiled functions get by its address."""
    return np.dtype([*((name, np.int64) for name in integers), *((f, np.float64) for f in floats)])


SIZES = _record(
    *("layers", "dense_layers", "vocab", "D", "H", "n", "r", "v", "C"),
    "Q",  # width of the query latent; 0 if queries come straight from the input
    *("E", "K", "groups", "top_groups", "I"),
    "shared_I",  # inner width of all shared experts together
    *("dense_I", "normalise"),
    *("multiply", "attend_rows"),  # addresses of compiled kernels
    floats=("eps", "latent_eps", "softmax", "routed"),
)
"""The model's shape."""

LAYER = _record(
    "index",
    *("input_norm", "post_norm", "q_norm", "kv_norm"),
    *("latents", "latents_form"),  # query and key-value latents, stacked
    *("q", "q_form"),
    *("k_up", "v_up", "up_form"),  # per head, queries into the latent space [C, n] and back [v, C]
    *("o", "o_form", "router", "bias"),
    *("gate_up", "down", "experts_form"),  # per expert; 32 rows of gate, the same 32 of up, ...
    *("shared_gate_up", "shared_down", "shared_form"),  # of a dense layer: its only expert
)
"""Addresses and forms of a layer's weights."""

MODEL = _record(
    *("embedding", "embedding_form", "norm", "head", "head_form", "frequencies"),
    *("cache", "blocks"),  # float32 [layers, blocks, R, 16]
)
"""Addresses of what is not in a layer."""

TOKENS = _record(
    *("x", "normed", "normed_int8", "q_latent", "q_latent_int8", "latent", "angles", "scores"),
    *("choice", "gate"),  # int64 and float32 [T, K]: chosen experts and their weights
)
"""Addresses of buffers for what is computed token by token; x is the residual stream."""

BUFFERS = _record(
    *("latents", "q", "queries", "mixed", "state", "context", "context_int8", "attended"),
    *("count", "start"),  # int64 [E]: pairs of each expert, and where they end in the sorted order
    *("token_of", "pair_of"),  # int64 [P]: the token of a sorted pair, the place of a pair
    *("hidden", "hidden_int8", "shared_hidden", "shared_hidden_int8"),
    *("y", "logits"),  # y: the experts' outputs, first of the sorted pairs, then the shared ones
)
"""Addresses of buffers that threads fill together."""

WORK = _record("tiles", "values", "weights", "valid", "gathered", "gate_up")
"""Addresses of one thread's scratch."""

BATCH = _record(
    *("ids", "position", "sequence", "table", "table_width", "wanted"),  # int32 arrays
    *("T", "O"),
)
"""A ragged batch, see the engine's `Batch`."""


@compiled
def int8_stride(K):  # noqa: ANN001, ANN201
    """Return the bytes from one int8 row to the next."""
    return (K + K // 4 + 63) // 64 * 64


@compiled
def row_stride(form, K):  # noqa: ANN001, ANN201
    """Return the bytes from one row of activations for such weights to the next."""
    return int8_stride(K) if form == INT4 else 4 * K


@compiled
def share(n, thread, threads):  # noqa: ANN001, ANN201
    """Return the part of `range(n)` that a thread owns."""
    return n * thread // threads, n * (thread + 1) // threads


@compiled
def multiply(s, form, w, first, last, x, x_stride, T, K, y, y_stride):  # noqa: ANN001, ANN201
    """Multiply tiles `first` to `last` of the matrix at `w` by T rows; tile i writes y[16 i:]."""
    call_10(s.multiply, (form, w, first, last, x, x_stride, T, K, y, y_stride))


@compiled
def norm_tokens(s, x, gain, tokens, first, last):  # noqa: ANN001, ANN201
    """Normalise the residual rows, and round them to int8 as well."""
    for t in range(first, last):
        at = tokens.normed + 4 * s.D * t
        norm_row(x + 4 * s.D * t, gain, s.D, np.float32(s.eps), at)
        quantize_part(at, s.D, tokens.normed_int8 + int8_stride(s.D) * t, s.D, 0)


@compiled
def embed(s, m, tokens, batch, first, last):  # noqa: ANN001, ANN201
    """Read the embeddings, and compute the rotary angles of every position."""
    for t in range(first, last):
        token_id = read_i32(batch.ids + 4 * t)
        to = tokens.x + 4 * s.D * t
        if m.embedding_form == FLOAT32:
            copy_row(m.embedding + 4 * s.D * token_id, 4 * s.D, to)
        else:
            widen_row(m.embedding + 2 * s.D * token_id, s.D, to)
        position = np.float32(read_i32(batch.position + 4 * t))
        for pair in range(s.r // 2):
            angle = position * read_f32(m.frequencies + 4 * pair)
            magnitude = read_f32(m.frequencies + 4 * (s.r // 2))
            at = tokens.angles + 4 * s.r * t + 8 * pair
            write_f32(at, np.float32(math.cos(angle)) * magnitude)
            write_f32(at + 4, np.float32(math.sin(angle)) * magnitude)


@compiled
def rotate(x, angles, r, out):  # noqa: ANN001, ANN201
    """Rotate the pairs of one head."""
    for pair in range(r // 2):
        cos, sin = read_f32(angles + 8 * pair), read_f32(angles + 8 * pair + 4)
        even, odd = read_f32(x + 8 * pair), read_f32(x + 8 * pair + 4)
        write_f32(out + 8 * pair, even * cos - odd * sin)
        write_f32(out + 8 * pair + 4, even * sin + odd * cos)


@compiled
def cache_tile(s, m, l, batch, sequence, index):  # noqa: ANN001, ANN201
    """Return the address of a sequence's tile number `index`."""
    block = read_i32(batch.table + 4 * (batch.table_width * sequence + index))
    return m.cache + 64 * (s.C + s.r) * (m.blocks * l.index + block)


@compiled
def write_latents(s, l, m, tokens, buffers, batch, first, last):  # noqa: ANN001, ANN201
    """Normalise the query latents, and put the key-value latents into the cache."""
    R = s.C + s.r
    eps = np.float32(s.latent_eps)
    for t in range(first, last):
        row = buffers.latents + 4 * (s.Q + R) * t
        if s.Q > 0:
            to = tokens.q_latent + 4 * s.Q * t
            norm_row(row, l.q_norm, s.Q, eps, to)
            quantize_part(to, s.Q, tokens.q_latent_int8 + int8_stride(s.Q) * t, s.Q, 0)
        latent = tokens.latent + 4 * R * t
        norm_row(row + 4 * s.Q, l.kv_norm, s.C, eps, latent)
        rotate(row + 4 * (s.Q + s.C), tokens.angles + 4 * s.r * t, s.r, latent + 4 * s.C)
        position = read_i32(batch.position + 4 * t)
        sequence = read_i32(batch.sequence + 4 * t)
        tile = cache_tile(s, m, l, batch, sequence, position // 16)
        store_latent(latent, R, tile, position % 16)


@compiled
def make_queries(s, l, tokens, buffers, T, first, last):  # noqa: ANN001, ANN201
    """Compute the queries of heads `first` to `last` in the latent space, scaled."""
    q, R = s.n + s.r, s.C + s.r
    form = l.q_form
    if s.Q > 0:
        width = s.Q
        x = tokens.q_latent_int8 if form == INT4 else tokens.q_latent
    else:
        width = s.D
        x = tokens.normed_int8 if form == INT4 else tokens.normed
    multiply(
        s,
        form,
        l.q,
        first * q // 16,
        last * q // 16,
        x,
        row_stride(form, width),
        T,
        width,
        buffers.q,
        4 * s.H * q,
    )
    up = l.up_form
    for h in range(first, last):
        matrix = l.k_up + h * (s.C // 16) * tile_bytes(up, s.n)
        to = buffers.queries + 4 * R * T * h
        multiply(s, up, matrix, 0, s.C // 16, buffers.q + 4 * q * h, 4 * s.H * q, T, s.n, to, 4 * R)
        for t in range(T):
            row = to + 4 * R * t
            source = buffers.q + 4 * (s.H * q * t + q * h + s.n)
            rotate(source, tokens.angles + 4 * s.r * t, s.r, row + 4 * s.C)
            scale_row(row, np.float32(s.softmax), R)


@compiled
def attend(s, l, m, buffers, batch, work, begin, end, first, last):  # noqa: ANN001, ANN201
    """Attend from tokens `begin` to `end`, all of one sequence, with heads `first` to `last`."""
    T, sequence = batch.T, read_i32(batch.sequence + 4 * begin)
    for h in range(first, last):
        for row in range(T * h + begin, T * h + end):
            clear_row(buffers.mixed + 4 * s.C * row, s.C)
            write_f32(buffers.state + 8 * row, np.float32(-np.inf))
            write_f32(buffers.state + 8 * row + 4, np.float32(0))
    newest = read_i32(batch.position + 4 * (end - 1))
    for part in range(newest // PART + 1):
        n_tiles = min(TILES, newest // 16 + 1 - TILES * part)
        for i in range(n_tiles):
            tile = cache_tile(s, m, l, batch, sequence, TILES * part + i)
            write_i64(work.tiles + 8 * i, tile)
            transpose_tile(tile, s.C, work.values + 64 * s.C * i)
        if n_tiles % 2:  # tiles come in pairs; the copy's keys have weight zero
            tile = read_i64(work.tiles + 8 * (n_tiles - 1))
            write_i64(work.tiles + 8 * n_tiles, tile)
            transpose_tile(tile, s.C, work.values + 64 * s.C * n_tiles)
        if end - begin == 1:
            attend_part(s, buffers, batch, work, part, begin, T * first + begin, last - first, T, 0)
        else:
            for h in range(first, last):
                attend_part(s, buffers, batch, work, part, begin, T * h + begin, end - begin, 1, 1)


@compiled
def attend_part(s, buffers, batch, work, part, t, row, n_rows, row_step, t_step):  # noqa: ANN001, ANN201
    """Attend to one part of the keys from `n_rows` rows: heads of a token or tokens of a head."""
    R, done = s.C + s.r, 0
    while done < n_rows:
        rows = 4 if n_rows - done >= 4 else 2 if n_rows - done >= 2 else 1
        valid = 0
        for i in range(rows):
            position = read_i32(batch.position + 4 * (t + t_step * (done + i)))
            valid = position + 1 - PART * part  # grows: the last row sees most
            write_i64(work.valid + 8 * i, valid)
        if valid > 0:
            tiles = min(TILES, (valid + 31) // 32 * 2)
            at = row + row_step * done
            call_14(
                s.attend_rows,
                (
                    rows,
                    buffers.queries + 4 * R * at,
                    4 * R * row_step,
                    work.tiles,
                    tiles,
                    R,
                    s.C,
                    work.values,
                    work.valid,
                    buffers.state + 8 * at,
                    8 * row_step,
                    buffers.mixed + 4 * s.C * at,
                    4 * s.C * row_step,
                    work.weights,
                ),
            )
        done += rows


@compiled
def make_context(s, l, buffers, T, first, last):  # noqa: ANN001, ANN201
    """Bring what heads `first` to `last` have mixed back from the latent space."""
    form, wide = l.up_form, s.H * s.v
    for h in range(first, last):
        for row in range(T * h, T * h + T):
            total = read_f32(buffers.state + 8 * row + 4)
            scale_row(buffers.mixed + 4 * s.C * row, np.float32(1) / total, s.C)
        matrix = l.v_up + h * (s.v // 16) * tile_bytes(form, s.C)
        to = buffers.context + 4 * s.v * h
        multiply(
            s,
            form,
            matrix,
            0,
            s.v // 16,
            buffers.mixed + 4 * s.C * T * h,
            4 * s.C,
            T,
            s.C,
            to,
            4 * wide,
        )
        for t in range(T):
            row = buffers.context_int8 + int8_stride(wide) * t
            quantize_part(to + 4 * wide * t, s.v, row, wide, s.v * h)


@compiled
def route(s, l, tokens, first, last):  # noqa: ANN001, ANN201
    """Choose the experts of each token and their weights."""
    E16 = (s.E + 15) // 16 * 16
    for t in range(first, last):
        scores = tokens.scores + 8 * E16 * t
        keys = scores + 4 * E16
        multiply(
            s,
            FLOAT32,
            l.router,
            0,
            E16 // 16,
            tokens.normed + 4 * s.D * t,
            4 * s.D,
            1,
            s.D,
            scores,
            4 * E16,
        )
        for e in range(0, E16, 16):
            sigmoid_16(scores + 4 * e)
        for e in range(s.E):
            bias = read_f32(l.bias + 4 * e)
            write_f32(keys + 4 * e, read_f32(scores + 4 * e) + bias)
        if s.groups > 1:
            limit_to_groups(s, keys)
        total = np.float32(1e-20)
        for k in range(s.K):
            best = 0
            for e in range(1, s.E):
                if read_f32(keys + 4 * e) > read_f32(keys + 4 * best):
                    best = e
            write_f32(keys + 4 * best, np.float32(-np.inf))
            gate = read_f32(scores + 4 * best)
            write_i64(tokens.choice + 8 * (s.K * t + k), best)
            write_f32(tokens.gate + 4 * (s.K * t + k), gate)
            total += gate
        factor = np.float32(s.routed) / (total if s.normalise else np.float32(1))
        for k in range(s.K):
            at = tokens.gate + 4 * (s.K * t + k)
            write_f32(at, read_f32(at) * factor)


@compiled
def limit_to_groups(s, keys):  # noqa: ANN001, ANN201
    """Keep only the groups whose two best keys sum highest (DeepSeek-V3; K2 has one group)."""
    size = s.E // s.groups
    strength = np.empty(s.groups, np.float32)
    for g in range(s.groups):
        one, two = np.float32(-np.inf), np.float32(-np.inf)
        for e in range(g * size, (g + 1) * size):
            key = read_f32(keys + 4 * e)
            if key > one:
                one, two = key, one
            elif key > two:
                two = key
        strength[g] = one + two if size > 1 else one
    kept = np.zeros(s.groups, np.uint8)
    for _ in range(s.top_groups):
        best = -1
        for g in range(s.groups):
            if kept[g] == 0 and (best < 0 or strength[g] > strength[best]):
                best = g
        kept[best] = 1
    for e in range(s.E):
        if kept[e // size] == 0:
            write_f32(keys + 4 * e, np.float32(-np.inf))


@compiled
def sort_pairs(s, tokens, buffers, T):  # noqa: ANN001, ANN201
    """Sort (token, expert) pairs by expert, stable; the shared experts take every token."""
    for e in range(s.E):
        write_i64(buffers.count + 8 * e, 0)
    for pair in range(T * s.K):
        at = buffers.count + 8 * read_i64(tokens.choice + 8 * pair)
        write_i64(at, read_i64(at) + 1)
    start = 0
    for e in range(s.E):
        write_i64(buffers.start + 8 * e, start)
        start += read_i64(buffers.count + 8 * e)
    for pair in range(T * s.K):
        at = buffers.start + 8 * read_i64(tokens.choice + 8 * pair)
        place = read_i64(at)
        write_i64(at, place + 1)
        write_i64(buffers.token_of + 8 * place, pair // s.K)
        write_i64(buffers.pair_of + 8 * pair, place)


@compiled
def gate_up(s, form, matrix, I, tokens, hidden, hidden_int8, work, token_of, count, first, last):  # noqa: ANN001, ANN201, E741
    """Fill units `first` to `last`, 32 hidden values each, of `count` rows of one expert."""
    stride = row_stride(form, s.D)
    rows = tokens.normed_int8 if form == INT4 else tokens.normed
    done = 0
    while done < count:
        T = min(ROWS, count - done)
        for i in range(T):
            t = read_i64(token_of + 8 * (done + i)) if token_of != 0 else done + i
            copy_row(rows + stride * t, stride, work.gathered + stride * i)
        for unit in range(first, last):
            at = matrix + 4 * unit * tile_bytes(form, s.D)
            multiply(s, form, at, 0, 4, work.gathered, stride, T, s.D, work.gate_up, 256)
            for i in range(T):
                gate, to = work.gate_up + 256 * i, hidden + 4 * (I * (done + i) + 32 * unit)
                swiglu_32(gate, gate + 128, to)
                row = hidden_int8 + int8_stride(I) * (done + i)
                quantize_part(to, 32, row, I, 32 * unit)
        done += T


@compiled
def down(s, form, matrix, I, hidden, hidden_int8, count, y, first, last):  # noqa: ANN001, ANN201, E741
    """Fill tiles `first` to `last` of the outputs of `count` rows of one expert."""
    rows = hidden_int8 if form == INT4 else hidden
    multiply(s, form, matrix, first, last, rows, row_stride(form, I), count, I, y, 4 * s.D)


@compiled
def routed(s, l, tokens, buffers, work, upwards, thread, threads):  # noqa: ANN001, ANN201
    """Run one half of the routed experts, those that tokens came to: `upwards`, then down."""
    form, I = l.experts_form, s.I  # noqa: E741
    first, last = share(I // 32 if upwards else s.D // 16, thread, threads)
    matrix = l.gate_up if upwards else l.down
    part = 4 * tile_bytes(form, s.D) if upwards else tile_bytes(form, I)
    size = part * (I // 32 if upwards else s.D // 16)
    for e in range(s.E):
        count = read_i64(buffers.count + 8 * e)
        if count == 0:
            continue
        following = e + 1
        while following < s.E and read_i64(buffers.count + 8 * following) == 0:
            following += 1
        if following < s.E:
            expect(matrix + size * following + part * first, HEADS_UP)
        start = read_i64(buffers.start + 8 * e) - count
        hidden = buffers.hidden + 4 * I * start
        hidden_int8 = buffers.hidden_int8 + int8_stride(I) * start
        if upwards:
            gate_up(
                s,
                form,
                matrix + size * e,
                I,
                tokens,
                hidden,
                hidden_int8,
                work,
                buffers.token_of + 8 * start,
                count,
                first,
                last,
            )
        else:
            down(
                s,
                form,
                matrix + size * e,
                I,
                hidden,
                hidden_int8,
                count,
                buffers.y + 4 * s.D * start,
                first,
                last,
            )


@compiled
def unrouted(s, l, I, tokens, buffers, work, T, y, upwards, thread, threads):  # noqa: ANN001, ANN201, E741
    """Run one half of the shared experts, or of a dense layer, on every token."""
    form = l.shared_form
    hidden, hidden_int8 = buffers.shared_hidden, buffers.shared_hidden_int8
    if upwards:
        first, last = share(I // 32, thread, threads)
        gate_up(s, form, l.shared_gate_up, I, tokens, hidden, hidden_int8, work, 0, T, first, last)
    else:
        first, last = share(s.D // 16, thread, threads)
        down(s, form, l.shared_down, I, hidden, hidden_int8, T, y, first, last)


@compiled
def combine(s, tokens, buffers, T, first, last):  # noqa: ANN001, ANN201
    """Add the experts' outputs to the residual stream."""
    for t in range(first, last):
        x = tokens.x + 4 * s.D * t
        for k in range(s.K):
            pair = read_i64(buffers.pair_of + 8 * (s.K * t + k))
            gate = read_f32(tokens.gate + 4 * (s.K * t + k))
            add_scaled_row(x, buffers.y + 4 * s.D * pair, gate, s.D)
        if s.shared_I > 0:
            add_scaled_row(x, buffers.y + 4 * s.D * (T * s.K + t), np.float32(1), s.D)


@compiled
def attention_layer(s, l, m, tokens, buffers, work, batch, bar, own, thread, threads):  # noqa: ANN001, ANN201
    """Leave the output of a layer's attention in `buffers.attended`."""
    T, R, (first, last) = batch.T, s.C + s.r, own
    form = l.latents_form
    x = tokens.normed_int8 if form == INT4 else tokens.normed
    tiles = share((s.Q + R) // 16, thread, threads)
    multiply(
        s,
        form,
        l.latents,
        tiles[0],
        tiles[1],
        x,
        row_stride(form, s.D),
        T,
        s.D,
        buffers.latents,
        4 * (s.Q + R),
    )
    barrier(bar, threads)
    write_latents(s, l, m, tokens, buffers, batch, first, last)
    if T > 1:
        barrier(bar, threads)
    heads = share(s.H, thread, threads)
    make_queries(s, l, tokens, buffers, T, heads[0], heads[1])
    begin = 0
    while begin < T:
        end = begin + 1
        sequence = read_i32(batch.sequence + 4 * begin)
        while end < T and read_i32(batch.sequence + 4 * end) == sequence:
            end += 1
        attend(s, l, m, buffers, batch, work, begin, end, heads[0], heads[1])
        begin = end
    make_context(s, l, buffers, T, heads[0], heads[1])
    barrier(bar, threads)
    form, wide = l.o_form, s.H * s.v
    rows = buffers.context_int8 if form == INT4 else buffers.context
    tiles = share(s.D // 16, thread, threads)
    multiply(
        s,
        form,
        l.o,
        tiles[0],
        tiles[1],
        rows,
        row_stride(form, wide),
        T,
        wide,
        buffers.attended,
        4 * s.D,
    )
    barrier(bar, threads)


@compiled
def feed_forward(s, l, tokens, buffers, work, bar, T, own, thread, threads):  # noqa: ANN001, ANN201
    """Add a layer's feed-forward output to the residual stream."""
    first, last = own
    if l.index < s.dense_layers:
        if T > 1:
            barrier(bar, threads)
        I = s.dense_I  # noqa: E741
        unrouted(s, l, I, tokens, buffers, work, T, 0, True, thread, threads)
        barrier(bar, threads)
        unrouted(s, l, I, tokens, buffers, work, T, buffers.y, False, thread, threads)
        barrier(bar, threads)
        for t in range(first, last):
            x = tokens.x + 4 * s.D * t
            add_scaled_row(x, buffers.y + 4 * s.D * t, np.float32(1), s.D)
        return
    route(s, l, tokens, first, last)
    if T > 1:
        barrier(bar, threads)
    if thread == 0:
        sort_pairs(s, tokens, buffers, T)
    barrier(bar, threads)
    y = buffers.y + 4 * s.D * T * s.K
    for upwards in (True, False):
        routed(s, l, tokens, buffers, work, upwards, thread, threads)
        if s.shared_I > 0:
            unrouted(s, l, s.shared_I, tokens, buffers, work, T, y, upwards, thread, threads)
        barrier(bar, threads)
    combine(s, tokens, buffers, T, first, last)


@compiled
def predict(s, m, tokens, buffers, batch, bar, thread, threads):  # noqa: ANN001, ANN201
    """Write the logits of the wanted tokens."""
    O, form = batch.O, m.head_form  # noqa: E741
    first, last = (0, O) if batch.T == 1 else share(O, thread, threads)
    for o in range(first, last):
        t = read_i32(batch.wanted + 4 * o)
        at = tokens.normed + 4 * s.D * o
        norm_row(tokens.x + 4 * s.D * t, m.norm, s.D, np.float32(s.eps), at)
        quantize_part(at, s.D, tokens.normed_int8 + int8_stride(s.D) * o, s.D, 0)
    if batch.T > 1:
        barrier(bar, threads)
    x = tokens.normed_int8 if form == INT4 else tokens.normed
    n_tiles = (s.vocab + 15) // 16
    first, last = share(n_tiles, thread, threads)
    multiply(
        s, form, m.head, first, last, x, row_stride(form, s.D), O, s.D, buffers.logits, 64 * n_tiles
    )
    barrier(bar, threads)


@compiled
def forward(s, layers, m, tokens, buffers, work, batch, bar, thread, threads):  # noqa: ANN001, ANN201
    """Run one batch: this thread's part of it."""
    own = (0, 1) if batch.T == 1 else share(batch.T, thread, threads)
    embed(s, m, tokens, batch, own[0], own[1])
    for index in range(s.layers):
        l = layers[index]  # noqa: E741
        norm_tokens(s, tokens.x, l.input_norm, tokens, own[0], own[1])
        if batch.T > 1:
            barrier(bar, threads)
        attention_layer(s, l, m, tokens, buffers, work, batch, bar, own, thread, threads)
        for t in range(own[0], own[1]):
            x = tokens.x + 4 * s.D * t
            add_scaled_row(x, buffers.attended + 4 * s.D * t, np.float32(1), s.D)
        norm_tokens(s, tokens.x, l.post_norm, tokens, own[0], own[1])
        feed_forward(s, l, tokens, buffers, work, bar, batch.T, own, thread, threads)
    if batch.T > 1:
        barrier(bar, threads)
    predict(s, m, tokens, buffers, batch, bar, thread, threads)


def run(s, layers, m, shared, private, buffers, work, batch, control, helpers, slot):  # noqa: ANN001, ANN201
    """Run the posted batch with the helpers that are awake, and return the number of threads.

    With a `slot`, help instead: run every batch that is posted, until none has come for a while.
    """
    threads = 0
    while True:
        if slot == 0:
            thread, threads = 0, gather(control, helpers)
        elif await_go(slot):
            thread, threads = read_i64(slot + 8), read_i64(slot + 16)
        else:
            return 0
        tokens = private if batch.T == 1 else shared
        forward(s, layers, m, tokens, buffers, work, batch, control, thread, threads)
        if slot == 0:
            return threads
