"""The feed-forward half of a layer: routing, the routed experts, shared experts, dense layers.

In: records of weights and buffers, this thread's share. Out: outputs of every (token, expert) pair,
added to the residual stream. Must not know: attention, or what a token is.

Shapes: T tokens, D width, E experts, K experts per token, I inner width.
"""

from __future__ import annotations

import numpy as np

from openk2.kernels.cpu.memory import compiled, read_f32, read_i64, write_f32, write_i64
from openk2.kernels.cpu.products import FLOAT32, INT4, tile_bytes
from openk2.kernels.cpu.records import int8_stride, multiply, row_stride, share
from openk2.kernels.cpu.rows import (
    add_scaled_row,
    copy_row,
    expect,
    quantize_part,
    sigmoid_16,
    swiglu_32,
)

HEADS_UP = 1536
"""Bytes of the next expert that are asked for while one is computed."""
ROWS = 8
"""Tokens of one expert that are computed side by side."""


@compiled
def route(s, w, tokens, first, last):
    """Choose the experts of each token and their weights."""
    E16 = (s.E + 15) // 16 * 16
    for t in range(first, last):
        scores = tokens.scores + 8 * E16 * t
        keys = scores + 4 * E16
        multiply(
            s,
            FLOAT32,
            w.router,
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
            bias = read_f32(w.bias + 4 * e)
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
def limit_to_groups(s, keys):
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
def sort_pairs(s, tokens, buffers, T):
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
def gate_up(s, form, matrix, I, tokens, hidden, hidden_int8, work, token_of, count, first, last):
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
def down(s, form, matrix, I, hidden, hidden_int8, count, y, first, last):
    """Fill tiles `first` to `last` of the outputs of `count` rows of one expert."""
    rows = hidden_int8 if form == INT4 else hidden
    multiply(s, form, matrix, first, last, rows, row_stride(form, I), count, I, y, 4 * s.D)


@compiled
def routed(s, w, tokens, buffers, work, upwards, thread, threads):
    """Run one half of the routed experts, those that tokens came to: `upwards`, then down."""
    form, I = w.experts_form, s.I
    first, last = share(I // 32 if upwards else s.D // 16, thread, threads)
    matrix = w.gate_up if upwards else w.down
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
def unrouted(s, w, I, tokens, buffers, work, T, y, upwards, thread, threads):
    """Run one half of the shared experts, or of a dense layer, on every token."""
    form = w.shared_form
    hidden, hidden_int8 = buffers.shared_hidden, buffers.shared_hidden_int8
    if upwards:
        first, last = share(I // 32, thread, threads)
        gate_up(s, form, w.shared_gate_up, I, tokens, hidden, hidden_int8, work, 0, T, first, last)
    else:
        first, last = share(s.D // 16, thread, threads)
        down(s, form, w.shared_down, I, hidden, hidden_int8, T, y, first, last)


@compiled
def combine(s, tokens, buffers, T, first, last):
    """Add the experts' outputs to the residual stream."""
    for t in range(first, last):
        x = tokens.x + 4 * s.D * t
        for k in range(s.K):
            pair = read_i64(buffers.pair_of + 8 * (s.K * t + k))
            gate = read_f32(tokens.gate + 4 * (s.K * t + k))
            add_scaled_row(x, buffers.y + 4 * s.D * pair, gate, s.D)
        if s.shared_I > 0:
            add_scaled_row(x, buffers.y + 4 * s.D * (T * s.K + t), np.float32(1), s.D)
