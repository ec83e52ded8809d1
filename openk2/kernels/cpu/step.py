"""One forward pass of the whole model, compiled: ids in, logits out, nothing of Python between.

In: addresses of tiled weights, of the paged latent cache and of buffers; a ragged batch of tokens.
Out: latents in the cache, logits in a buffer. `docs/concepts/serving.md` says what makes it fast.
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
from openk2.kernels.cpu.experts import combine, route, routed, sort_pairs, unrouted
from openk2.kernels.cpu.memory import (
    atomic_write,
    call_14,
    compiled,
    read_f32,
    read_i32,
    read_i64,
    write_f32,
    write_i64,
)
from openk2.kernels.cpu.products import FLOAT32, INT4, tile_bytes
from openk2.kernels.cpu.records import (
    LAYER_BYTES,
    batch_at,
    buffers_at,
    int8_stride,
    layer_at,
    model_at,
    multiply,
    row_stride,
    share,
    sizes_at,
    tokens_at,
    work_at,
)
from openk2.kernels.cpu.rows import (
    add_scaled_row,
    clear_row,
    copy_row,
    norm_row,
    quantize_part,
    scale_row,
    store_latent,
    widen_row,
)
from openk2.kernels.cpu.team import READY, await_go, barrier, gather


@compiled
def norm_tokens(s, x, gain, tokens, first, last):
    """Normalise the residual rows, and round them to int8 as well."""
    for t in range(first, last):
        at = tokens.normed + 4 * s.D * t
        norm_row(x + 4 * s.D * t, gain, s.D, np.float32(s.eps), at)
        quantize_part(at, s.D, tokens.normed_int8 + int8_stride(s.D) * t, s.D, 0)


@compiled
def embed(s, m, tokens, batch, first, last):
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
def rotate(x, angles, r, out):
    """Rotate the pairs of one head."""
    for pair in range(r // 2):
        cos, sin = read_f32(angles + 8 * pair), read_f32(angles + 8 * pair + 4)
        even, odd = read_f32(x + 8 * pair), read_f32(x + 8 * pair + 4)
        write_f32(out + 8 * pair, even * cos - odd * sin)
        write_f32(out + 8 * pair + 4, even * sin + odd * cos)


@compiled
def cache_tile(s, m, w, batch, sequence, index):
    """Return the address of a sequence's tile number `index`."""
    block = read_i32(batch.table + 4 * (batch.table_width * sequence + index))
    return m.cache + 64 * (s.C + s.r) * (m.blocks * w.index + block)


@compiled
def write_latents(s, w, m, tokens, buffers, batch, first, last):
    """Normalise the query latents, and put the key-value latents into the cache."""
    R = s.C + s.r
    eps = np.float32(s.latent_eps)
    for t in range(first, last):
        row = buffers.latents + 4 * (s.Q + R) * t
        if s.Q > 0:
            to = tokens.q_latent + 4 * s.Q * t
            norm_row(row, w.q_norm, s.Q, eps, to)
            quantize_part(to, s.Q, tokens.q_latent_int8 + int8_stride(s.Q) * t, s.Q, 0)
        latent = tokens.latent + 4 * R * t
        norm_row(row + 4 * s.Q, w.kv_norm, s.C, eps, latent)
        rotate(row + 4 * (s.Q + s.C), tokens.angles + 4 * s.r * t, s.r, latent + 4 * s.C)
        position = read_i32(batch.position + 4 * t)
        sequence = read_i32(batch.sequence + 4 * t)
        tile = cache_tile(s, m, w, batch, sequence, position // 16)
        store_latent(latent, R, tile, position % 16)


@compiled
def make_queries(s, w, tokens, buffers, T, first, last):
    """Compute the queries of heads `first` to `last` in the latent space, scaled."""
    q, R = s.n + s.r, s.C + s.r
    form = w.q_form
    if s.Q > 0:
        width = s.Q
        x = tokens.q_latent_int8 if form == INT4 else tokens.q_latent
    else:
        width = s.D
        x = tokens.normed_int8 if form == INT4 else tokens.normed
    multiply(
        s,
        form,
        w.q,
        first * q // 16,
        last * q // 16,
        x,
        row_stride(form, width),
        T,
        width,
        buffers.q,
        4 * s.H * q,
    )
    up = w.up_form
    for h in range(first, last):
        matrix = w.k_up + h * (s.C // 16) * tile_bytes(up, s.n)
        to = buffers.queries + 4 * R * T * h
        multiply(s, up, matrix, 0, s.C // 16, buffers.q + 4 * q * h, 4 * s.H * q, T, s.n, to, 4 * R)
        for t in range(T):
            row = to + 4 * R * t
            source = buffers.q + 4 * (s.H * q * t + q * h + s.n)
            rotate(source, tokens.angles + 4 * s.r * t, s.r, row + 4 * s.C)
            scale_row(row, np.float32(s.softmax), R)


@compiled
def attend(s, w, m, buffers, batch, work, begin, end, first, last):
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
            tile = cache_tile(s, m, w, batch, sequence, TILES * part + i)
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
def attend_part(s, buffers, batch, work, part, t, row, n_rows, row_step, t_step):
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
def make_context(s, w, buffers, T, first, last):
    """Bring what heads `first` to `last` have mixed back from the latent space."""
    form, wide = w.up_form, s.H * s.v
    for h in range(first, last):
        for row in range(T * h, T * h + T):
            total = read_f32(buffers.state + 8 * row + 4)
            scale_row(buffers.mixed + 4 * s.C * row, np.float32(1) / total, s.C)
        matrix = w.v_up + h * (s.v // 16) * tile_bytes(form, s.C)
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
def attention_layer(s, w, m, tokens, buffers, work, batch, bar, own, thread, threads):
    """Leave the output of a layer's attention in `buffers.attended`."""
    T, R, (first, last) = batch.T, s.C + s.r, own
    form = w.latents_form
    x = tokens.normed_int8 if form == INT4 else tokens.normed
    tiles = share((s.Q + R) // 16, thread, threads)
    multiply(
        s,
        form,
        w.latents,
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
    write_latents(s, w, m, tokens, buffers, batch, first, last)
    if T > 1:
        barrier(bar, threads)
    heads = share(s.H, thread, threads)
    make_queries(s, w, tokens, buffers, T, heads[0], heads[1])
    begin = 0
    while begin < T:
        end = begin + 1
        sequence = read_i32(batch.sequence + 4 * begin)
        while end < T and read_i32(batch.sequence + 4 * end) == sequence:
            end += 1
        attend(s, w, m, buffers, batch, work, begin, end, heads[0], heads[1])
        begin = end
    make_context(s, w, buffers, T, heads[0], heads[1])
    barrier(bar, threads)
    form, wide = w.o_form, s.H * s.v
    rows = buffers.context_int8 if form == INT4 else buffers.context
    tiles = share(s.D // 16, thread, threads)
    multiply(
        s,
        form,
        w.o,
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
def feed_forward(s, w, tokens, buffers, work, bar, T, own, thread, threads):
    """Add a layer's feed-forward output to the residual stream."""
    first, last = own
    if w.index < s.dense_layers:
        if T > 1:
            barrier(bar, threads)
        I = s.dense_I
        unrouted(s, w, I, tokens, buffers, work, T, 0, True, thread, threads)
        barrier(bar, threads)
        unrouted(s, w, I, tokens, buffers, work, T, buffers.y, False, thread, threads)
        barrier(bar, threads)
        for t in range(first, last):
            x = tokens.x + 4 * s.D * t
            add_scaled_row(x, buffers.y + 4 * s.D * t, np.float32(1), s.D)
        return
    route(s, w, tokens, first, last)
    if T > 1:
        barrier(bar, threads)
    if thread == 0:
        sort_pairs(s, tokens, buffers, T)
    barrier(bar, threads)
    y = buffers.y + 4 * s.D * T * s.K
    for upwards in (True, False):
        routed(s, w, tokens, buffers, work, upwards, thread, threads)
        if s.shared_I > 0:
            unrouted(s, w, s.shared_I, tokens, buffers, work, T, y, upwards, thread, threads)
        barrier(bar, threads)
    combine(s, tokens, buffers, T, first, last)


@compiled
def predict(s, m, tokens, buffers, batch, bar, thread, threads):
    """Write the logits of the wanted tokens."""
    O, form = batch.O, m.head_form
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
def forward(s, layers, m, tokens, buffers, work, batch, bar, thread, threads):
    """Run one batch: this thread's part of it."""
    own = (0, 1) if batch.T == 1 else share(batch.T, thread, threads)
    embed(s, m, tokens, batch, own[0], own[1])
    for index in range(s.layers):
        w = layer_at(layers + LAYER_BYTES * index)
        norm_tokens(s, tokens.x, w.input_norm, tokens, own[0], own[1])
        if batch.T > 1:
            barrier(bar, threads)
        attention_layer(s, w, m, tokens, buffers, work, batch, bar, own, thread, threads)
        for t in range(own[0], own[1]):
            x = tokens.x + 4 * s.D * t
            add_scaled_row(x, buffers.attended + 4 * s.D * t, np.float32(1), s.D)
        norm_tokens(s, tokens.x, w.post_norm, tokens, own[0], own[1])
        feed_forward(s, w, tokens, buffers, work, bar, batch.T, own, thread, threads)
    if batch.T > 1:
        barrier(bar, threads)
    predict(s, m, tokens, buffers, batch, bar, thread, threads)


def run(sizes, layers, model, shared, private, buffers, work, batch, control, helpers, slot) -> int:
    """Run the posted batch with the helpers that are awake, and return the number of threads.

    All but `helpers`, a count, are addresses, those of records first. With a `slot`, help instead:
    run every batch that is posted, until none has come for a while.
    """
    s, m, b, to, own = (
        sizes_at(sizes), model_at(model), batch_at(batch), buffers_at(buffers), work_at(work),
    )  # fmt: skip
    threads = 0
    while True:
        if slot == 0:
            thread, threads = 0, gather(control, helpers)
        elif await_go(slot):
            thread, threads = read_i64(slot + 8), read_i64(slot + 16)
        else:
            return 0
        tokens = tokens_at(private) if b.T == 1 else tokens_at(shared)
        forward(s, layers, m, tokens, to, own, b, control, thread, threads)
        if slot == 0:
            return threads
        atomic_write(slot, READY)
