"""MMCV's compiled operators that detectors need most, computed by torchvision and PyTorch, on a CPU or a GPU.

`mmcv.ops` calls them by these names and arguments (csrc/pytorch/pybind.cpp). An operator other than nms writes its
result into tensors that MMCV passes. Half precision is computed in float32: PyTorch has few of these kernels for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

AVERAGE = 1  # RoIAlign's pool_mode; 0 takes the maximum


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Non-maximum suppression.

    Args:
        boxes: corners (x1, y1, x2, y2) in px, (N, 4).
        scores: (N,).
        iou_threshold: a box that overlaps a better one by more is dropped.
        offset: 0, or 1 where x2 and y2 are the last pixels inside, so that a width is x2 − x1 + 1.

    Returns:
        The indices of the boxes that are kept, best first.
    """
    corners = _wide(boxes)
    if offset:
        corners = corners + corners.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(corners, _wide(scores), iou_threshold)


def roi_align_forward(input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor,
                      **settings: Any) -> None:
    """Cuts regions out of maps (N, C, H, W) and pools each to (C, aligned_height, aligned_width).

    Args:
        input: the maps.
        rois: (index of the map, x1, y1, x2, y2), (R, 5).
        output: receives (R, C, aligned_height, aligned_width).
        argmax_y: used by the maximum only.
        argmax_x: used by the maximum only.
        **settings: as `_pooled` takes them.

    Raises:
        NotImplementedError: the maximum is asked for.
    """
    output.copy_(_pooled(_wide(input), rois, **settings))


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor,
                       **settings: Any) -> None:
    """The gradient of `roi_align_forward` for the maps, written into `grad_input`."""
    # The pooling is linear in the maps: its gradient is the same at all of them, zeros included.
    gradient, = _gradients(lambda maps: _pooled(maps, rois, **settings), [torch.zeros_like(grad_input)], grad_output)
    grad_input.copy_(gradient)


def _pooled(maps: Tensor, rois: Tensor, *, aligned_height: int, aligned_width: int, spatial_scale: float,
            sampling_ratio: int, pool_mode: int, aligned: bool) -> Tensor:
    """The regions, each bin the average of sampling_ratio² bilinear samples, or of about one a pixel if it is 0.

    `aligned` moves the regions by half a pixel, which puts a pixel's value in its middle.
    """
    if pool_mode != AVERAGE:
        raise NotImplementedError("ghostlib stands in for RoIAlign with pool_mode='avg' only; use it, or install MMCV "
                                  "with its compiled operators for pool_mode='max'")
    return torchvision.ops.roi_align(maps, rois.to(maps), (aligned_height, aligned_width), spatial_scale,
                                     sampling_ratio, aligned)


def deform_conv_forward(input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor,
                        **geometry: int) -> None:
    """A convolution whose k² taps are each moved by an offset of its own at each place (DCN).

    Args:
        input: (N, C, H, W).
        weight: (C', C/group, kH, kW).
        offset: (y, x) in px for each group of channels and each tap, (N, 2·deformable_group·kH·kW, H', W').
        output: receives (N, C', H', W').
        columns: MMCV's scratch memory, not used.
        ones: likewise.
        **geometry: as `_deformed` takes it.
    """
    output.copy_(_deformed(_wide(input), _wide(offset), _wide(weight), **geometry))


def deform_conv_backward_input(input: Tensor, offset: Tensor, gradOutput: Tensor, gradInput: Tensor,
                               gradOffset: Tensor, weight: Tensor, columns: Tensor, **geometry: int) -> None:
    """The gradients of `deform_conv_forward` for input and offset, written into `gradInput` and `gradOffset`."""
    wide = _wide(weight)
    gradients = _gradients(lambda input, offset: _deformed(input, offset, wide, **geometry), [input, offset],
                           gradOutput)
    _write([gradInput, gradOffset], gradients)


def deform_conv_backward_parameters(input: Tensor, offset: Tensor, gradOutput: Tensor, gradWeight: Tensor,
                                    columns: Tensor, ones: Tensor, scale: float, **geometry: int) -> None:
    """The gradient of `deform_conv_forward` for the weight, times `scale`, written into `gradWeight`."""
    # MMCV passes no weight. The convolution is linear in it, so that zeros have the same gradient.
    maps, offsets = _wide(input), _wide(offset)
    gradient, = _gradients(lambda weight: _deformed(maps, offsets, weight, **geometry), [torch.zeros_like(gradWeight)],
                           gradOutput)
    gradWeight.copy_(scale * gradient)


def _deformed(input: Tensor, offset: Tensor, weight: Tensor, *, kW: int, kH: int, dW: int, dH: int, padW: int,
              padH: int, dilationW: int, dilationH: int, group: int, deformable_group: int,
              im2col_step: int) -> Tensor:
    """The convolution without a mask: d is the stride. `im2col_step` images at a time need less memory, and are not."""
    return _modulated(input, offset, None, weight, None, kernel_h=kH, kernel_w=kW, stride_h=dH, stride_w=dW,
                      pad_h=padH, pad_w=padW, dilation_h=dilationH, dilation_w=dilationW, group=group,
                      deformable_group=deformable_group)


def modulated_deform_conv_forward(input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor, offset: Tensor,
                                  mask: Tensor, output: Tensor, columns: Tensor, *, with_bias: bool,
                                  **geometry: int) -> None:
    """As `deform_conv_forward`, with a factor for each tap at each place and with a bias (DCNv2).

    Args:
        input: (N, C, H, W).
        weight: (C', C/group, kH, kW).
        bias: (C',), or empty.
        ones: MMCV's scratch memory, not used.
        offset: (y, x) in px for each group of channels and each tap, (N, 2·deformable_group·kH·kW, H', W').
        mask: the factors, (N, deformable_group·kH·kW, H', W').
        output: receives (N, C', H', W').
        columns: MMCV's scratch memory, not used.
        with_bias: whether there is a bias.
        **geometry: as `_modulated` takes it.
    """
    tensors = [input, offset, mask, weight] + [bias] * with_bias
    output.copy_(_modulated(*map(_wide, tensors), **geometry))


def modulated_deform_conv_backward(input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor, offset: Tensor,
                                   mask: Tensor, columns: Tensor, grad_input: Tensor, grad_weight: Tensor,
                                   grad_bias: Tensor, grad_offset: Tensor, grad_mask: Tensor, grad_output: Tensor, *,
                                   with_bias: bool, **geometry: int) -> None:
    """The gradients of `modulated_deform_conv_forward`, written into the tensors whose names begin with `grad_`."""
    inputs = [input, offset, mask, weight] + [bias] * with_bias
    outputs = [grad_input, grad_offset, grad_mask, grad_weight] + [grad_bias] * with_bias
    _write(outputs, _gradients(lambda *tensors: _modulated(*tensors, **geometry), inputs, grad_output))


def _modulated(input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None = None, *,
               kernel_h: int, kernel_w: int, stride_h: int, stride_w: int, pad_h: int, pad_w: int, dilation_h: int,
               dilation_w: int, group: int, deformable_group: int) -> Tensor:
    # torchvision reads both numbers of groups from the shapes: without this check it would take others than MMCV's.
    if offset.shape[1] != (expected := 2 * deformable_group * kernel_h * kernel_w):
        raise ValueError(f"the offset has {offset.shape[1]} channels; {deformable_group} deformable groups of "
                         f"{kernel_h}×{kernel_w} taps need {expected}")
    if input.shape[1] != (expected := group * weight.shape[1]):
        raise ValueError(f"the input has {input.shape[1]} channels; the weight and {group} groups need {expected}")
    return torchvision.ops.deform_conv2d(input, offset, weight, bias, (stride_h, stride_w), (pad_h, pad_w),
                                         (dilation_h, dilation_w), mask)


def sigmoid_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float,
                               alpha: float) -> None:
    """−α (1 − p)^γ log p for the target's class and −(1 − α) p^γ log(1 − p) for every other, where p = sigmoid(input).

    Args:
        input: logits (N, C).
        target: classes (N,); C is the background, the target's class for none.
        weight: a factor for each target class, (C,), or empty for none.
        output: receives the losses (N, C).
        gamma: γ.
        alpha: α.
    """
    logits, positive, factor = _focal(input, target, weight)
    p = logits.sigmoid()
    # MMCV takes log(1 − p) of the rounded p, which in float32 is off where a logit is above 16. This is not.
    loss = torch.where(positive, -alpha * (1 - p) ** gamma * F.logsigmoid(logits),
                       -(1 - alpha) * p ** gamma * F.logsigmoid(-logits))
    output.copy_(loss * factor)


def sigmoid_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float,
                                alpha: float) -> None:
    """The derivative of each of the losses by its logit, written into `grad_input`."""
    logits, positive, factor = _focal(input, target, weight)
    p = logits.sigmoid()
    # Written out: autograd gives NaN for γ < 1 where p is 0 or 1.
    gradient = torch.where(positive, -alpha * (1 - p) ** gamma * (1 - p - gamma * p * F.logsigmoid(logits)),
                           -(1 - alpha) * p ** gamma * (gamma * (1 - p) * F.logsigmoid(-logits) - p))
    grad_input.copy_(gradient * factor)


def _focal(input: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, C), where the target's class is (N, C), and a factor (N, 1) or a scalar."""
    positive = target[:, None] == torch.arange(input.shape[1], device=input.device)
    factor = _wide(weight)[target][:, None] if weight.numel() else input.new_ones(())
    return _wide(input), positive, factor


def _gradients(function: Callable[..., Tensor], inputs: Sequence[Tensor], grad_output: Tensor) -> tuple[Tensor, ...]:
    """The gradient of a function for each of its inputs, by autograd, which MMCV turns off around a backward."""
    leaves = [_wide(tensor).detach().requires_grad_() for tensor in inputs]
    with torch.enable_grad():
        return torch.autograd.grad(function(*leaves), leaves, _wide(grad_output))


def _write(outputs: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for output, value in zip(outputs, values, strict=True):
        output.copy_(value)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


# What MMCV finds in the stand-in for its compiled module.
OPERATORS: dict[str, Callable[..., Any]] = {operator.__name__: operator for operator in (
    nms, roi_align_forward, roi_align_backward, deform_conv_forward, deform_conv_backward_input,
    deform_conv_backward_parameters, modulated_deform_conv_forward, modulated_deform_conv_backward,
    sigmoid_focal_loss_forward, sigmoid_focal_loss_backward)}
