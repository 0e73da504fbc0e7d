"""Triton's kernels for the sum of 3×3 depth-wise branches; `depthwise` says what they are for.

Images have their channels last, (N, H, W, C) in memory. A program works on tiles of BP positions × BC channels, and a
thread holds a number for each tap t of the nine, or each of the 45 pairs t ≤ u of them, so that nothing is read twice.
"""

from __future__ import annotations

import triton
import triton.language as tl

# A kernel compiled for one size serves all.
_SIZES = ("C", "H", "W", "OH", "OW", "QH", "QW", "positions", "pixels", "steps",
          "count")
# The place of the pair t, u among the 45, in either order, at 9 t + u.
_PAIRS = tl.constexpr(tuple(min(t, u) * 9 - min(t, u) * (min(t, u) - 1) // 2 + abs(t - u)
                            for t in range(9) for u in range(9)))


@triton.jit
def _window(x, n, row, column, valid, channels, C, H, W, SIDE: tl.constexpr):
    """The SIDE² pixels from (row, column) of images n on, row by row: (BP, BC) each, in float32; 0 beyond the image."""
    first = x + (((n * H + row) * W + column) * C)[:, None] + channels[None, :]
    rows, columns = (), ()
    for i in tl.static_range(SIDE):
        rows += (valid & (row + i >= 0) & (row + i < H),)
        columns += ((column + i >= 0) & (column + i < W),)
    pixels = ()
    for t in tl.static_range(SIDE * SIDE):
        inside = (rows[t // SIDE] & columns[t % SIDE])[:, None] & (channels < C)[None, :]
        pixels += (tl.load(first + (t // SIDE * W + t % SIDE) * C, mask=inside, other=0).to(tl.float32),)
    return pixels


@triton.jit
def _taps(x, p, positions, channels, C, H, W, OH, OW, STRIDE: tl.constexpr):
    """What the nine taps read for output positions p."""
    n, row, column = p // (OH * OW), p // OW % OH * STRIDE - 1, p % OW * STRIDE - 1
    return _window(x, n, row, column, p < positions, channels, C, H, W, 3)


@triton.jit(do_not_specialize=_SIZES)
def tap_moments(x, partial, C, H, W, OH, OW, positions, steps, STRIDE: tl.constexpr,
                BP: tl.constexpr, BC: tl.constexpr):
    """partial (programs, 54, C): sums over output positions of each tap, then of the product of each pair."""
    channels = tl.program_id(1) * BC + tl.arange(0, BC)
    sums = ()
    for _ in tl.static_range(54):
        sums += (tl.zeros([BP, BC], tl.float32),)
    for step in range(steps):
        p = (tl.program_id(0) * steps + step) * BP + tl.arange(0, BP)
        taps = _taps(x, p, positions, channels, C, H, W, OH, OW, STRIDE)
        new = ()
        for t in tl.static_range(9):
            new += (sums[t] + taps[t],)
        for t in tl.static_range(9):
            for u in tl.static_range(t, 9):
                new += (sums[9 + _PAIRS[t * 9 + u]] + taps[t] * taps[u],)
        sums = new
    out = partial + tl.program_id(0) * 54 * C + channels
    for i in tl.static_range(54):
        tl.store(out + i * C, tl.sum(sums[i], 0), mask=channels < C)


@triton.jit(do_not_specialize=_SIZES)
def convolve(x, kernel, bias, y, C, H, W, OH, OW, positions, steps, STRIDE: tl.constexpr,
             BP: tl.constexpr, BC: tl.constexpr):
    """y = kernel (9, C) * x + bias (C)."""
    channels = tl.program_id(1) * BC + tl.arange(0, BC)
    weights = _rows(kernel, 9, channels, C)
    offset = tl.load(bias + channels, mask=channels < C, other=0)[None, :]
    for step in range(steps):
        p = (tl.program_id(0) * steps + step) * BP + tl.arange(0, BP)
        taps = _taps(x, p, positions, channels, C, H, W, OH, OW, STRIDE)
        total = tl.zeros([BP, BC], tl.float32) + offset
        for t in tl.static_range(9):
            total += weights[t] * taps[t]
        tl.store(y + (p * C)[:, None] + channels[None, :], total.to(y.dtype.element_ty),
                 mask=(p < positions)[:, None] & (channels < C)[None, :])


@triton.jit
def _rows(table, ROWS: tl.constexpr, channels, C):
    """The rows of a table (ROWS, C) at these channels, (1, BC) each."""
    rows = ()
    for i in tl.static_range(ROWS):
        rows += (tl.load(table + i * C + channels, mask=channels < C, other=0)[None, :],)
    return rows


@triton.jit(do_not_specialize=_SIZES)
def kernel_gradient(x, gradient, partial, C, H, W, OH, OW, positions, steps, STRIDE: tl.constexpr,
                    BP: tl.constexpr, BC: tl.constexpr):
    """partial (programs, 10, C): sums of the output's gradient times each tap, then of the gradient alone."""
    channels = tl.program_id(1) * BC + tl.arange(0, BC)
    sums = ()
    for _ in tl.static_range(10):
        sums += (tl.zeros([BP, BC], tl.float32),)
    for step in range(steps):
        p = (tl.program_id(0) * steps + step) * BP + tl.arange(0, BP)
        taps = _taps(x, p, positions, channels, C, H, W, OH, OW, STRIDE)
        g = tl.load(gradient + (p * C)[:, None] + channels[None, :],
                    mask=(p < positions)[:, None] & (channels < C)[None, :], other=0).to(tl.float32)
        new = ()
        for t in tl.static_range(9):
            new += (sums[t] + g * taps[t],)
        sums = new + (sums[9] + g,)
    out = partial + tl.program_id(0) * 10 * C + channels
    for i in tl.static_range(10):
        tl.store(out + i * C, tl.sum(sums[i], 0), mask=channels < C)


@triton.jit(do_not_specialize=_SIZES)
def input_gradient(x, gradient, kernel, by_pairs, by_taps, by_x, C, H, W, OH, OW, QH, QW, pixels, steps,
                   STRIDE: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """by_x: over the positions that read a pixel, as tap t, Σ kernel_t·gradient + by_taps_t + Σ_u by_pairs_tu·x_u.

    Of the QH × QW pixels (STRIDE i + ROW, STRIDE j + COLUMN) of each image, which the same taps read. kernel (9, C),
    by_pairs (45, C), by_taps (9, C).
    """
    channels = tl.program_id(1) * BC + tl.arange(0, BC)
    known = (channels < C)[None, :]
    weights, constants = _rows(kernel, 9, channels, C), _rows(by_taps, 9, channels, C)
    pairs = _rows(by_pairs, 45, channels, C)
    for step in range(steps):
        q = (tl.program_id(0) * steps + step) * BP + tl.arange(0, BP)
        n, row, column = q // (QH * QW), q // QW % QH * STRIDE + ROW, q % QW * STRIDE + COLUMN
        around = _window(x, n, row - 2, column - 2, q < pixels, channels, C, H, W, 5)
        total = tl.zeros([BP, BC], tl.float32)
        for t in tl.static_range(9):
            if (ROW + 1 + t // 3) % STRIDE == 0 and (COLUMN + 1 + t % 3) % STRIDE == 0:
                r, c = (row + 1 - t // 3) // STRIDE, (column + 1 - t % 3) // STRIDE
                reads = ((q < pixels) & (r >= 0) & (r < OH) & (c >= 0) & (c < OW))[:, None]
                g = tl.load(gradient + (((n * OH + r) * OW + c) * C)[:, None] + channels[None, :],
                            mask=reads & known, other=0)
                part = constants[t] + weights[t] * g.to(tl.float32)
                for u in tl.static_range(9):
                    part += pairs[_PAIRS[t * 9 + u]] * around[(u // 3 - t // 3 + 2) * 5 + u % 3 - t % 3 + 2]
                total += tl.where(reads, part, 0)
        at = (((n * H + row) * W + column) * C)[:, None] + channels[None, :]
        tl.store(by_x + at, total.to(by_x.dtype.element_ty), mask=(q < pixels)[:, None] & known)


@triton.jit
def _branch(b: tl.constexpr, kernels, vectors, channels, C, FULL: tl.constexpr, SCALE: tl.constexpr,
            BRANCHES: tl.constexpr, AFFINE: tl.constexpr):
    """A branch's nine weights, γ and β."""
    known = channels < C
    ones = tl.full(channels.shape, 1, tl.float32)
    weights = ()
    for t in tl.static_range(9):
        if b < FULL:
            weights += (tl.load(kernels + (b * C + channels) * 9 + t, mask=known, other=0).to(tl.float32),)
        elif t != 4:
            weights += (ones * 0,)
        elif SCALE and b == FULL:
            weights += (tl.load(vectors + (2 * BRANCHES * AFFINE) * C + channels, mask=known, other=0).to(tl.float32),)
        else:
            weights += (ones,)
    if AFFINE:
        gamma = tl.load(vectors + b * C + channels, mask=known, other=0).to(tl.float32)
        beta = tl.load(vectors + (BRANCHES + b) * C + channels, mask=known, other=0).to(tl.float32)
    else:
        gamma, beta = ones, ones * 0
    return weights, gamma, beta


@triton.jit
def _covariance(sums, channels, C, count):
    """The taps' means and the 45 numbers of their covariance."""
    known = channels < C
    means, covariance = (), ()
    for t in tl.static_range(9):
        means += (tl.load(sums + t * C + channels, mask=known, other=0) / count,)
    for t in tl.static_range(9):
        for u in tl.static_range(t, 9):
            second = tl.load(sums + (9 + _PAIRS[t * 9 + u]) * C + channels, mask=known, other=0) / count
            covariance += (second - means[t] * means[u],)
    return means, covariance


@triton.jit(do_not_specialize=_SIZES)
def assemble(sums, kernels, vectors, kernel, bias, mean, variance, C, count, eps, FULL: tl.constexpr,
             SCALE: tl.constexpr, BRANCHES: tl.constexpr, AFFINE: tl.constexpr, BC: tl.constexpr):
    """The branches' mean and variance (BRANCHES, C), and the kernel (9, C) and bias (C) that are their sum's."""
    channels = tl.program_id(0) * BC + tl.arange(0, BC)
    known = channels < C
    means, covariance = _covariance(sums, channels, C, count)
    total = ()
    for _ in tl.static_range(9):
        total += (tl.zeros([BC], tl.float32),)
    offset = tl.zeros([BC], tl.float32)
    for b in tl.static_range(BRANCHES):
        weights, gamma, beta = _branch(b, kernels, vectors, channels, C, FULL, SCALE, BRANCHES, AFFINE)
        m, v = tl.zeros([BC], tl.float32), tl.zeros([BC], tl.float32)
        for t in tl.static_range(9):
            m += weights[t] * means[t]
            along = tl.zeros([BC], tl.float32)
            for u in tl.static_range(9):
                along += covariance[_PAIRS[t * 9 + u]] * weights[u]
            v += weights[t] * along
        v = tl.maximum(v, 0)
        scale = gamma * tl.rsqrt(v + eps)
        new = ()
        for t in tl.static_range(9):
            new += (total[t] + scale * weights[t],)
        total = new
        offset += beta - scale * m
        tl.store(mean + b * C + channels, m, mask=known)
        tl.store(variance + b * C + channels, v, mask=known)
    for t in tl.static_range(9):
        tl.store(kernel + t * C + channels, total[t], mask=known)
    tl.store(bias + channels, offset, mask=known)


@triton.jit(do_not_specialize=_SIZES)
def assemble_gradients(sums, kernels, vectors, mean, variance, by_sums, by_kernels, by_vectors, by_pairs, by_taps, C,
                       count, eps, FULL: tl.constexpr, SCALE: tl.constexpr, BRANCHES: tl.constexpr,
                       AFFINE: tl.constexpr, BC: tl.constexpr):
    """The gradients by the branches' parameters, and what `input_gradient` needs.

    by_sums (10, C) is what `kernel_gradient` found.
    """
    channels = tl.program_id(0) * BC + tl.arange(0, BC)
    known = channels < C
    means, covariance = _covariance(sums, channels, C, count)
    by_kernel = ()
    for t in tl.static_range(9):
        by_kernel += (tl.load(by_sums + t * C + channels, mask=known, other=0),)
    by_bias = tl.load(by_sums + 9 * C + channels, mask=known, other=0)
    pairs, taps = (), ()
    for _ in tl.static_range(45):
        pairs += (tl.zeros([BC], tl.float32),)
    for _ in tl.static_range(9):
        taps += (tl.zeros([BC], tl.float32),)
    for b in tl.static_range(BRANCHES):
        weights, gamma, _ = _branch(b, kernels, vectors, channels, C, FULL, SCALE, BRANCHES, AFFINE)
        m = tl.load(mean + b * C + channels, mask=known, other=0)
        rstd = tl.rsqrt(tl.load(variance + b * C + channels, mask=known, other=0) + eps)
        scale = gamma * rstd
        by_scale = -by_bias * m
        for t in tl.static_range(9):
            by_scale += weights[t] * by_kernel[t]
        by_variance = -0.5 * by_scale * scale * rstd * rstd
        by_mean = -by_bias * scale
        for t in tl.static_range(9):
            along = tl.zeros([BC], tl.float32)
            for u in tl.static_range(9):
                along += covariance[_PAIRS[t * 9 + u]] * weights[u]
            by_weight = scale * by_kernel[t] + 2 * by_variance * along + by_mean * means[t]
            if b < FULL:
                tl.store(by_kernels + (b * C + channels) * 9 + t, by_weight, mask=known)
            elif SCALE and b == FULL and t == 4:
                tl.store(by_vectors + (2 * BRANCHES * AFFINE) * C + channels, by_weight, mask=known)
        if AFFINE:
            tl.store(by_vectors + b * C + channels, by_scale * rstd, mask=known)
            tl.store(by_vectors + (BRANCHES + b) * C + channels, by_bias, mask=known)
        new = ()
        for t in tl.static_range(9):
            new += (taps[t] + by_mean * weights[t],)
        taps = new
        more = ()
        for t in tl.static_range(9):
            for u in tl.static_range(t, 9):
                more += (pairs[_PAIRS[t * 9 + u]] + by_variance * weights[t] * weights[u],)
        pairs = more
    for t in tl.static_range(9):
        through = taps[t]
        for u in tl.static_range(9):
            through -= 2 * pairs[_PAIRS[t * 9 + u]] * means[u]
        tl.store(by_taps + t * C + channels, through / count, mask=known)
    for i in tl.static_range(45):
        tl.store(by_pairs + i * C + channels, 2 * pairs[i] / count, mask=known)
