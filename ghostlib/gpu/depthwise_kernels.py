"""Triton's kernels for the sum of 3×3 depth-wise branches; `depthwise` says what they are for.

Images have their channels last, (N, H, W, C) in memory. A program works on tiles of BP positions × BC channels, and a
thread holds a number for each tap t of the nine, or each of the 45 pairs t ≤ u of them, so that nothing is read twice.
"""

from __future__ import annotations

import triton
import triton.language as tl

# A kernel compiled for one size serves all.
_SIZES = ("C", "H", "W", "OH", "OW", "positions", "pixels", "steps", "count")
# The place of the pair t, u among the 45, in either order, at 9 t + u.
_PAIRS = tl.constexpr(tuple(min(t, u) * 9 - min(t, u) * (min(t, u) - 1) // 2 + abs(t - u)
                            for t in range(9) for u in range(9)))


@triton.jit
def _tap(x, n, row, column, channels, inside, C, H, W):
    """(BP, BC), the pixels at these rows and columns of the images n, in float32; 0 outside of the image."""
    inside = inside & (row >= 0) & (row < H) & (column >= 0) & (column < W)
    at = ((n * H + row) * W + column) * C
    values = tl.load(x + at[:, None] + channels[None, :], mask=inside[:, None] & (channels < C)[None, :], other=0)
    return values.to(tl.float32)


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
        n, row, column = p // (OH * OW), p // OW % OH * STRIDE - 1, p % OW * STRIDE - 1
        taps = ()
        for t in tl.static_range(9):
            taps += (_tap(x, n, row + t // 3, column + t % 3, channels, p < positions, C, H, W),)
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
    known = channels < C
    weights = ()
    for t in tl.static_range(9):
        weights += (tl.load(kernel + t * C + channels, mask=known, other=0)[None, :],)
    offset = tl.load(bias + channels, mask=known, other=0)[None, :]
    for step in range(steps):
        p = (tl.program_id(0) * steps + step) * BP + tl.arange(0, BP)
        n, row, column = p // (OH * OW), p // OW % OH * STRIDE - 1, p % OW * STRIDE - 1
        total = tl.zeros([BP, BC], tl.float32) + offset
        for t in tl.static_range(9):
            total += weights[t] * _tap(x, n, row + t // 3, column + t % 3, channels, p < positions, C, H, W)
        tl.store(y + (p * C)[:, None] + channels[None, :], total.to(y.dtype.element_ty),
                 mask=(p < positions)[:, None] & known[None, :])


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
        n, row, column = p // (OH * OW), p // OW % OH * STRIDE - 1, p % OW * STRIDE - 1
        g = tl.load(gradient + (p * C)[:, None] + channels[None, :],
                    mask=(p < positions)[:, None] & (channels < C)[None, :], other=0).to(tl.float32)
        new = ()
        for t in tl.static_range(9):
            tap = _tap(x, n, row + t // 3, column + t % 3, channels, p < positions, C, H, W)
            new += (sums[t] + g * tap,)
        sums = new + (sums[9] + g,)
    out = partial + tl.program_id(0) * 10 * C + channels
    for i in tl.static_range(10):
        tl.store(out + i * C, tl.sum(sums[i], 0), mask=channels < C)


@triton.jit(do_not_specialize=_SIZES)
def input_gradient(x, gradient, kernel, by_pairs, by_taps, by_x, C, H, W, OH, OW, pixels, steps, STRIDE: tl.constexpr,
                   BP: tl.constexpr, BC: tl.constexpr):
    """by_x: for every output position p that reads a pixel as its tap t, kernel_t·gradient_p + by_taps_t + Σ_u by_pairs_tu·x_u.

    kernel (9, C), by_pairs (45, C), by_taps (9, C).
    """
    channels = tl.program_id(1) * BC + tl.arange(0, BC)
    known = channels < C
    weights, constants, pairs = (), (), ()
    for t in tl.static_range(9):
        weights += (tl.load(kernel + t * C + channels, mask=known, other=0)[None, :],)
        constants += (tl.load(by_taps + t * C + channels, mask=known, other=0)[None, :],)
    for i in tl.static_range(45):
        pairs += (tl.load(by_pairs + i * C + channels, mask=known, other=0)[None, :],)
    for step in range(steps):
        q = (tl.program_id(0) * steps + step) * BP + tl.arange(0, BP)
        n, row, column = q // (H * W), q // W % H, q % W
        around = ()
        for d in tl.static_range(25):
            around += (_tap(x, n, row + d // 5 - 2, column + d % 5 - 2, channels, q < pixels, C, H, W),)
        total = tl.zeros([BP, BC], tl.float32)
        for t in tl.static_range(9):
            r, c = row + 1 - t // 3, column + 1 - t % 3
            reads = (r % STRIDE == 0) & (c % STRIDE == 0) & (r >= 0) & (c >= 0)
            r, c = r // STRIDE, c // STRIDE
            reads = reads & (r < OH) & (c < OW)
            part = constants[t] + weights[t] * _tap(gradient, n, r, c, channels, reads & (q < pixels), C, OH, OW)
            for u in tl.static_range(9):
                part += pairs[_PAIRS[t * 9 + u]] * around[(u // 3 - t // 3 + 2) * 5 + u % 3 - t % 3 + 2]
            total += tl.where(reads[:, None], part, 0)
        tl.store(by_x + (q * C)[:, None] + channels[None, :], total.to(by_x.dtype.element_ty),
                 mask=(q < pixels)[:, None] & known[None, :])


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
