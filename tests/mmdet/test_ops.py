"""MMCV's operators by torchvision and PyTorch, called by MMCV's own functions: held against plain loops and numbers.

The loops say what MMCV's documentation and its CUDA kernels say.
"""

from __future__ import annotations

import itertools
import math

import mmcv.ops
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from ghostlib.mmdet import ops

GEOMETRIES = [  # kernel, stride, padding, dilation, groups, groups of offsets
    ((3, 3), 1, 1, 1, 1, 1), ((3, 2), (2, 1), (1, 0), 1, 1, 2), ((3, 3), 1, (2, 1), (2, 1), 2, 1),
    ((1, 3), 2, (0, 1), 1, 2, 4)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pixel(image: Tensor, y: float, x: float) -> float:
    """Bilinear interpolation of an image (H, W) that is 0 outside."""
    total = 0.0
    for row, column in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
        if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
            total += image[row, column].item() * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


# -- nms


def suppressed(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int) -> list[int]:
    """Greedy suppression, a pair at a time."""
    def area(x1, y1, x2, y2):
        return max(0.0, x2 - x1 + offset) * max(0.0, y2 - y1 + offset)

    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        overlaps = []
        for j in kept:
            shared = area(*np.maximum(boxes[i, :2], boxes[j, :2]), *np.minimum(boxes[i, 2:], boxes[j, 2:]))
            overlaps.append(shared / (area(*boxes[i]) + area(*boxes[j]) - shared))
        if all(overlap <= threshold for overlap in overlaps):
            kept.append(int(i))
    return kept


def some_boxes(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 30, (n, 2))
    boxes = np.concatenate([corner, corner + random.uniform(1, 12, (n, 2))], axis=1)
    return torch.tensor(boxes), torch.tensor(random.permutation(n) / n)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.2, 0.45, 0.7])
def test_nms_keeps_what_greedy_suppression_keeps(threshold, offset):
    boxes, scores = some_boxes(120)
    kept = ops.nms(boxes, scores, iou_threshold=threshold, offset=offset)
    assert kept.tolist() == suppressed(boxes.numpy(), scores.numpy(), threshold, offset)
    assert len(kept) < 120


def test_the_offset_decides_where_a_pixel_does():
    # Between the corners they share 2 of 4, with the last pixels counted in 3 of 5.
    boxes, scores = torch.tensor([[0.0, 0, 3, 9], [1, 0, 4, 9]]), torch.tensor([0.9, 0.8])
    assert ops.nms(boxes, scores, iou_threshold=0.55, offset=0).tolist() == [0, 1]
    assert ops.nms(boxes, scores, iou_threshold=0.55, offset=1).tolist() == [0]
    assert boxes[0].tolist() == [0, 0, 3, 9]


def test_no_boxes_are_no_boxes():
    kept = ops.nms(torch.zeros(0, 4), torch.zeros(0), iou_threshold=0.5, offset=0)
    assert kept.shape == (0,) and kept.dtype == torch.int64


@pytest.mark.parametrize("offset", [0, 1])
def test_mmcvs_nms_sorts_filters_and_limits(offset):
    boxes, scores = some_boxes(120)
    kept = suppressed(boxes.numpy(), scores.numpy(), 0.45, offset)
    detections, indices = mmcv.ops.nms(boxes.float(), scores.float(), 0.45, offset=offset, score_threshold=0.3,
                                       max_num=20)
    expected = [i for i in kept if scores[i] > 0.3][:20]
    assert indices.tolist() == expected and detections.shape == (20, 5)


def test_mmcvs_batched_nms_suppresses_within_a_class_only():
    boxes, scores = some_boxes(120)
    classes = torch.arange(120) % 3
    _, kept = mmcv.ops.batched_nms(boxes.float(), scores.float(), classes, dict(type="nms", iou_threshold=0.45))
    expected = [members[i].item() for members in (torch.where(classes == one)[0] for one in range(3))
                for i in suppressed(boxes[members].numpy(), scores[members].numpy(), 0.45, 0)]
    assert sorted(kept.tolist()) == sorted(expected)
    assert scores[kept].diff().max() <= 0


# -- RoIAlign

# A region inside a pixel, one of several pixels, and one that leaves the map on two sides.
ROIS = torch.tensor([[0, 5.2, 6.1, 6.0, 7.5], [1, 2.0, 3.0, 17.5, 12.2], [1, -6.0, 8.0, 9.0, 33.0]],
                    dtype=torch.float64)


def regions(maps: Tensor, rois: Tensor, size: tuple[int, int], scale: float, ratio: int, aligned: bool) -> Tensor:
    """RoIAlign, a sample at a time."""
    height, width = maps.shape[2:]

    def sample(image, y, x):
        if not (-1 <= y <= height and -1 <= x <= width):
            return 0.0
        return pixel(image, min(max(y, 0), height - 1), min(max(x, 0), width - 1))

    pooled = torch.zeros(len(rois), maps.shape[1], *size, dtype=maps.dtype)
    for r, (index, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (corner * scale - (0.5 if aligned else 0) for corner in corners)
        across, down = x2 - x1, y2 - y1
        if not aligned:
            across, down = max(across, 1.0), max(down, 1.0)
        bin_y, bin_x = down / size[0], across / size[1]
        grid_y, grid_x = ratio or math.ceil(bin_y), ratio or math.ceil(bin_x)
        for c, i, j in itertools.product(range(maps.shape[1]), range(size[0]), range(size[1])):
            samples = [sample(maps[int(index), c], y1 + (i + (p + 0.5) / grid_y) * bin_y,
                              x1 + (j + (q + 0.5) / grid_x) * bin_x)
                       for p in range(grid_y) for q in range(grid_x)]
            pooled[r, c, i, j] = sum(samples) / len(samples)
    return pooled


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 3])
def test_roi_align_averages_bilinear_samples(ratio, aligned):
    maps = random(2, 2, 8, 9)
    ours = mmcv.ops.roi_align(maps, ROIS, (3, 2), 0.5, ratio, "avg", aligned)
    assert torch.allclose(ours, regions(maps, ROIS, (3, 2), 0.5, ratio, aligned), atol=1e-12)


def test_aligned_regions_of_whole_pixels_are_these_pixels():
    maps = random(1, 1, 4, 4)
    region = torch.tensor([[0, 1.0, 2, 3, 4]], dtype=torch.float64)
    assert torch.allclose(mmcv.ops.RoIAlign((2, 2), sampling_ratio=1)(maps, region)[0, 0], maps[0, 0, 2:4, 1:3])
    assert not torch.allclose(mmcv.ops.RoIAlign((2, 2), sampling_ratio=1, aligned=False)(maps, region)[0, 0],
                              maps[0, 0, 2:4, 1:3])


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align_has_the_gradient_of_what_it_computes(ratio, aligned):
    maps = random(2, 1, 6, 7).requires_grad_()
    assert torch.autograd.gradcheck(lambda maps: mmcv.ops.roi_align(maps, ROIS, (2, 3), 0.4, ratio, "avg", aligned),
                                    maps)


def test_no_regions_are_no_regions():
    maps = random(1, 3, 6, 6).requires_grad_()
    pooled = mmcv.ops.roi_align(maps, torch.zeros(0, 5, dtype=torch.float64), 7, 0.25, 0, "avg", True)
    pooled.sum().backward()
    assert pooled.shape == (0, 3, 7, 7) and not maps.grad.any()


def test_the_maximum_is_refused():
    with pytest.raises(NotImplementedError, match="RoIAlign with pool_mode='avg' only"):
        mmcv.ops.RoIAlign(2, pool_mode="max")(random(1, 1, 4, 4), ROIS[:1])


# -- deformable convolution


def case(kernel, stride, padding, dilation, groups, deform_groups) -> dict:
    """Tensors and settings of a deformable convolution of 4 channels to 6."""
    side = [(size + 2 * pad - (step * (taps - 1) + 1)) // stride + 1 for size, pad, step, taps, stride in
            zip((5, 6), pair(padding), pair(dilation), kernel, pair(stride), strict=True)]
    taps = kernel[0] * kernel[1]
    return dict(images=random(2, 4, 5, 6), weight=random(6, 4 // groups, *kernel, seed=1), bias=random(6, seed=2),
                # Some reach over the edge, and none is whole: there the interpolation has a kink.
                offset=1.5 * random(2, 2 * deform_groups * taps, *side, seed=3),
                mask=random(2, deform_groups * taps, *side, seed=4).sigmoid(),
                settings=(stride, padding, dilation, groups, deform_groups))


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def deformed(images: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride, padding, dilation,
             groups: int, deform_groups: int) -> Tensor:
    """Deformable convolution, a tap at a time: offsets are (y, x) a tap, the taps of a group of channels together."""
    stride, padding, dilation = pair(stride), pair(padding), pair(dilation)
    outputs, per_group, kernel_h, kernel_w = weight.shape
    out = torch.zeros(len(images), outputs, *offset.shape[2:], dtype=images.dtype)
    for n, c, i, j in np.ndindex(*out.shape):
        total = bias[c].item()
        for k, u, v in np.ndindex(per_group, kernel_h, kernel_w):
            channel = c // (outputs // groups) * per_group + k
            tap = channel // (images.shape[1] // deform_groups) * kernel_h * kernel_w + u * kernel_w + v
            y = i * stride[0] - padding[0] + u * dilation[0] + offset[n, 2 * tap, i, j].item()
            x = j * stride[1] - padding[1] + v * dilation[1] + offset[n, 2 * tap + 1, i, j].item()
            total += weight[c, k, u, v].item() * mask[n, tap, i, j].item() * pixel(images[n, channel], y, x)
        out[n, c, i, j] = total
    return out


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_deformable_convolutions_sample_where_the_offsets_say(geometry):
    of = case(*geometry)
    plain = mmcv.ops.deform_conv2d(of["images"], of["offset"], of["weight"], *of["settings"])
    modulated = mmcv.ops.modulated_deform_conv2d(of["images"], of["offset"], of["mask"], of["weight"], of["bias"],
                                                 *of["settings"])
    assert torch.allclose(plain, deformed(of["images"], of["offset"], torch.ones_like(of["mask"]), of["weight"],
                                          torch.zeros(6), *of["settings"]), atol=1e-12)
    assert torch.allclose(modulated, deformed(of["images"], of["offset"], of["mask"], of["weight"], of["bias"],
                                              *of["settings"]), atol=1e-12)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_deformable_convolutions_have_the_gradients_of_what_they_compute(geometry):
    of = case(*geometry)
    images, offset, mask = (of[name][:1].requires_grad_() for name in ("images", "offset", "mask"))
    weight, bias = (of[name].requires_grad_() for name in ("weight", "bias"))

    def plain(images, offset, weight):
        return mmcv.ops.deform_conv2d(images, offset, weight, *of["settings"])

    def modulated(*tensors):
        return mmcv.ops.modulated_deform_conv2d(*tensors, *of["settings"])

    # Finite differences in 20 random directions and not along every one of the hundreds of inputs.
    assert torch.autograd.gradcheck(plain, (images, offset, weight), fast_mode=True)
    assert torch.autograd.gradcheck(modulated, (images, offset, mask, weight, bias), fast_mode=True)
    assert torch.autograd.gradcheck(modulated, (images, offset, mask, weight, None), fast_mode=True)


def test_without_offsets_it_is_a_convolution_and_y_moves_it_down():
    images, weight = random(1, 2, 5, 5), random(3, 2, 3, 3, seed=1)
    offset = torch.zeros(1, 18, 5, 5, dtype=torch.float64)
    padded = pad(images, (1, 1, 1, 2))
    assert torch.allclose(mmcv.ops.deform_conv2d(images, offset, weight, 1, 1), conv2d(padded[:, :, :7], weight))
    offset[:, 0::2] = 1
    assert torch.allclose(mmcv.ops.deform_conv2d(images, offset, weight, 1, 1), conv2d(padded[:, :, 1:], weight))


def test_the_number_of_images_at_a_time_changes_nothing():
    of = case(*GEOMETRIES[0])
    at_once, singly = (mmcv.ops.deform_conv2d(of["images"], of["offset"], of["weight"], *of["settings"], False, step)
                       for step in (32, 1))
    assert torch.equal(at_once, singly)


def test_groups_that_do_not_fit_are_refused():
    of = case(*GEOMETRIES[0])
    with pytest.raises((ValueError, RuntimeError), match="channels"):
        mmcv.ops.deform_conv2d(of["images"], of["offset"], of["weight"], 1, 1, 1, 1, 2)
    with pytest.raises((ValueError, RuntimeError), match="channels"):
        mmcv.ops.deform_conv2d(of["images"], of["offset"], of["weight"][:, :2].contiguous(), 1, 1)


# -- focal loss


def focal(logits: Tensor, target: Tensor, gamma: float, alpha: float, weight: Tensor | None) -> Tensor:
    """The losses, a logit at a time."""
    out = torch.zeros_like(logits)
    for n, c in np.ndindex(*logits.shape):
        p = 1 / (1 + math.exp(-logits[n, c].item()))
        out[n, c] = (-alpha * (1 - p) ** gamma * math.log(p) if target[n] == c
                     else -(1 - alpha) * p ** gamma * math.log(1 - p))
        out[n, c] *= 1 if weight is None else weight[target[n]]
    return out


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.5, 0.6), (0.0, 0.5)])
def test_the_focal_loss_and_its_gradient(gamma, alpha, weighted):
    logits, target = 3 * random(5, 3), torch.tensor([0, 2, 1, 1, 0])
    weight = torch.tensor([0.5, 2, 1], dtype=torch.float64) if weighted else None
    expected = focal(logits, target, gamma, alpha, weight)
    for reduction, reduced in (("none", expected), ("sum", expected.sum()), ("mean", expected.sum() / 5)):
        assert torch.allclose(mmcv.ops.sigmoid_focal_loss(logits, target, gamma, alpha, weight, reduction), reduced)
        assert torch.autograd.gradcheck(
            lambda logits, how=reduction: mmcv.ops.sigmoid_focal_loss(logits, target, gamma, alpha, weight, how),
            logits.clone().requires_grad_())


def test_the_background_is_no_class():
    logits, background = random(2, 3), torch.tensor([3, 3])
    assert torch.allclose(mmcv.ops.sigmoid_focal_loss(logits, background, 2.0, 0.25, None, "none"),
                          focal(logits, background, 2.0, 0.25, None))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_a_certain_answer_has_a_finite_loss_and_gradient(gamma):
    logits = torch.tensor([[-200.0, 200.0], [200.0, -200.0]], requires_grad=True)
    loss = mmcv.ops.sigmoid_focal_loss(logits, torch.tensor([0, 0]), gamma, 0.25, None, "none")
    loss.sum().backward()
    assert loss.isfinite().all() and torch.allclose(logits.grad, torch.tensor([[-0.25, 0.75], [0, 0]]))


# -- mixed precision


def test_mixed_precision_learns_through_all_of_them():
    """As autocast leaves them: offsets, maps and boxes in half precision, weights in float32."""
    maps = random(2, 4, 8, 8).float()
    layers = [mmcv.ops.DeformConv2dPack(4, 4, 3, padding=1), mmcv.ops.ModulatedDeformConv2dPack(4, 4, 3, padding=1)]
    for layer in layers:
        torch.nn.init.normal_(layer.conv_offset.bias, std=0.5)

    def loss(dtype):
        out = maps
        for layer in layers:
            out = layer(out)
        pooled = mmcv.ops.roi_align(out, ROIS.to(out), 2, 0.5, 0, "avg", True)
        focal = mmcv.ops.sigmoid_focal_loss(pooled.flatten(1), torch.tensor([0, 1, 2]), 2.0, 0.25, None, "mean")
        assert out.dtype == pooled.dtype == focal.dtype == dtype
        return focal

    exact = loss(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss(torch.bfloat16)
    assert torch.allclose(rounded.float(), exact, rtol=0.05)
    rounded.backward()
    assert all(layer.weight.grad.abs().sum() > 0 and layer.conv_offset.bias.grad.abs().sum() > 0 for layer in layers)
    boxes, scores = some_boxes(20)
    assert ops.nms(boxes.bfloat16(), scores.bfloat16(), 0.5, 0).tolist() == ops.nms(
        boxes.bfloat16().float(), scores.bfloat16().float(), 0.5, 0).tolist()
