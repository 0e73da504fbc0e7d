"""Triton's kernels for the sum of 1×1 branches; `pointwise` says what they are for."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=("rows", "steps"))
def products(a, b, partial, sums, rows, A, B, steps, BM: tl.constexpr, BA: tl.constexpr, BB: tl.constexpr,
             PRECISION: tl.constexpr):
    """Of a (rows, A) and b (rows, B), over a program's share of the rows: partial (programs, A, B) aᵀ b, sums Σ a."""
    columns_a, columns_b = tl.arange(0, BA), tl.arange(0, BB)
    total, along = tl.zeros([BA, BB], tl.float32), tl.zeros([BA], tl.float32)
    for step in range(steps):
        row = (tl.program_id(0) * steps + step) * BM + tl.arange(0, BM)
        of_a = tl.load(a + row[:, None] * A + columns_a[None, :], mask=(row < rows)[:, None] & (columns_a < A)[None, :],
                       other=0)
        of_b = tl.load(b + row[:, None] * B + columns_b[None, :], mask=(row < rows)[:, None] & (columns_b < B)[None, :],
                       other=0)
        total = tl.dot(tl.trans(of_a), of_b, total, input_precision=PRECISION)
        along += tl.sum(of_a.to(tl.float32), 0)
    out = partial + tl.program_id(0) * A * B
    tl.store(out + columns_a[:, None] * B + columns_b[None, :], total,
             mask=(columns_a < A)[:, None] & (columns_b < B)[None, :])
    tl.store(sums + tl.program_id(0) * A + columns_a, along, mask=columns_a < A)


@triton.jit(do_not_specialize=("rows", "outputs", "inputs"))
def assemble(kernels, along, means, vectors, kernel, bias, mean, variance, outputs, inputs, eps,
             BRANCHES: tl.constexpr, AFFINE: tl.constexpr, BI: tl.constexpr):
    """Of one output: the branches' mean and variance (BRANCHES, O), and the kernel (O, C) and bias (O) of their sum.

    kernels (BRANCHES, O, C), along, like them, their products with the covariance, vectors γ and β (2, BRANCHES, O).
    """
    o, c = tl.program_id(0), tl.arange(0, BI)
    known = c < inputs
    of_means = tl.load(means + c, mask=known, other=0)
    total, offset = tl.zeros([BI], tl.float32), 0.0
    for b in tl.static_range(BRANCHES):
        at = (b * outputs + o) * inputs + c
        weights = tl.load(kernels + at, mask=known, other=0).to(tl.float32)
        m = tl.sum(weights * of_means, 0)
        v = tl.maximum(tl.sum(weights * tl.load(along + at, mask=known, other=0), 0), 0)
        scale = tl.rsqrt(v + eps)
        if AFFINE:
            scale *= tl.load(vectors + b * outputs + o).to(tl.float32)
            offset += tl.load(vectors + (BRANCHES + b) * outputs + o).to(tl.float32)
        total += scale * weights
        offset -= scale * m
        tl.store(mean + b * outputs + o, m)
        tl.store(variance + b * outputs + o, v)
    tl.store(kernel + o * inputs + c, total.to(kernel.dtype.element_ty), mask=known)
    tl.store(bias + o, offset.to(bias.dtype.element_ty))


@triton.jit(do_not_specialize=("rows", "outputs", "inputs"))
def assemble_gradients(kernels, along, means, vectors, mean, variance, by_kernel, by_bias, by_kernels, by_vectors,
                       weighted, by_mean, rows, outputs, inputs, eps, BRANCHES: tl.constexpr,
                       AFFINE: tl.constexpr, BI: tl.constexpr):
    """Of one output: the gradients by its parameters, and what the covariance's and the mean's gradients are made of.

    weighted (BRANCHES, O, C) is each kernel times twice the gradient by its variance, and by_mean (BRANCHES, O) the one
    by its mean, a row's share of them.
    """
    o, c = tl.program_id(0), tl.arange(0, BI)
    known = c < inputs
    of_means = tl.load(means + c, mask=known, other=0)
    of_kernel = tl.load(by_kernel + o * inputs + c, mask=known, other=0)
    of_bias = tl.load(by_bias + o)
    for b in tl.static_range(BRANCHES):
        at = (b * outputs + o) * inputs + c
        weights = tl.load(kernels + at, mask=known, other=0).to(tl.float32)
        rstd = tl.rsqrt(tl.load(variance + b * outputs + o) + eps)
        scale = rstd
        if AFFINE:
            scale *= tl.load(vectors + b * outputs + o).to(tl.float32)
        by_scale = tl.sum(weights * of_kernel, 0) - of_bias * tl.load(mean + b * outputs + o)
        by_variance = -0.5 * by_scale * scale * rstd * rstd
        through_mean = -of_bias * scale
        by_weights = scale * of_kernel + 2 * by_variance * tl.load(along + at, mask=known, other=0)
        tl.store(by_kernels + at, by_weights + through_mean * of_means, mask=known)
        tl.store(weighted + at, 2 * by_variance / rows * weights, mask=known)
        tl.store(by_mean + b * outputs + o, through_mean / rows)
        if AFFINE:
            tl.store(by_vectors + b * outputs + o, by_scale * rstd)
            tl.store(by_vectors + (BRANCHES + b) * outputs + o, of_bias)
