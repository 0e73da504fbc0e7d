"""One convolution with its batch normalisation, trained as a sum of parallel branches (§4.1)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghostlib.models.branch_sum import choice, exact


class RepConv(nn.Module):
    """A convolution with batch normalisation, trained as the sum of parallel conv-BN branches.

    A k×k depth-wise convolution may also get a 1×1 depth-wise branch (the paper's "1×1 DW") and, where input and output
    have the same shape, a branch that is a BN alone (in the authors' code, not in the paper). Whatever activation
    follows is not part of this module: it comes after the sum.

    Args:
        conv: the convolution to expand. It becomes branch 0, so a network trained with N branches starts
            from the very weights of the network trained with one.
        norm: its batch normalisation, which goes with it.
        branches: the number N of k×k conv-BN branches.
        scale: add the 1×1 depth-wise branch to depth-wise convolutions.
        skip: add the BN-only branch to depth-wise convolutions of stride 1.
        seed: of the new branches' weights. Equal seeds give a branch equal weights, however many others there are.
        preserve: begin with the function of `conv` and `norm`: the new branches' γ are 0.

    A new branch's weights learn if the convolution's weight does, its γ and β if the normalisation's do.

    Attributes:
        form: how the sum is computed while training: "branches", one after the other; "exact", as one convolution where
            there is a form for that (`branch_sum`), which differs by rounding and keeps little but the input for the
            backward pass; "auto", where it is faster: on a CPU by a table of measured sites, on a GPU in its own
            kernels (`ghostlib.gpu`). State dicts are the same. The exact forms have no second derivative. In float32
            they lose digits, as differences of larger numbers, where an input's mean is many times its spread or where
            a kernel nearly cancels on a smooth image; a CPU sees that and goes branch by branch, an accelerator or a
            compiled graph does not look.
    """

    form: choice.Form = "auto"

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | nn.SyncBatchNorm, branches: int = 3, scale: bool = True,
                 skip: bool = True, seed: int = 0, preserve: bool = False):
        super().__init__()
        self.names = ("", "")  # of `conv` and `norm` in the network that they were taken from
        if branches < 1:
            raise ValueError(f"branches must be at least 1, got {branches}")
        extras = _is_depthwise(conv) and conv.kernel_size != (1, 1) and _is_centred(conv)
        keeps_shape = conv.stride == (1, 1) and conv.in_channels == conv.out_channels
        generator = torch.Generator("cpu").manual_seed(seed)
        # Drawn even if it is not used: the next branches' weights depend on the order of the draws.
        one_by_one = _scale_like(conv, generator)
        self.branches = nn.ModuleList([
            _pair(conv, norm), *(_pair(_like(conv, generator), _fresh(norm)) for _ in range(branches - 1))])
        self.scale = _pair(one_by_one, _fresh(norm)) if extras and scale else None
        self.skip = _fresh(norm) if extras and skip and keeps_shape else None
        if preserve:
            self.silence_new_branches()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H', W'), the sum over the branches."""
        if self.form not in get_args(choice.Form):
            raise ValueError(f"form = {self.form!r}; known: {', '.join(get_args(choice.Form))}")
        total = exact.forward(self, x) if self.form != "branches" else None
        return self.sum_branches(x) if total is None else total

    def sum_branches(self, x: Tensor) -> Tensor:
        """What `forward` computes, branch by branch."""
        first, *others = self.branches
        out = first(x)
        for branch in others:
            out = out + branch(x)
        if self.scale is not None:
            out = out + self._scaled(x, out.dtype)
        if self.skip is not None:
            out = out + self.skip(x)
        return out

    def _scaled(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """The 1×1 branch, as a product: PyTorch convolves a channel at a time where the batch is small."""
        conv = self.scale.conv
        traced = not isinstance(x, Tensor) or torch.jit.is_tracing()
        plain = type(conv).forward is nn.Conv2d.forward and not any(
            module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
            for module in (self.scale, conv))
        if traced or not plain or conv.bias is not None or conv.in_channels != conv.out_channels:
            return self.scale(x)
        rows, columns = conv.stride
        return self.scale.norm(x[:, :, ::rows, ::columns].to(dtype) * conv.weight.view(-1, 1, 1).to(dtype))

    @property
    def norms(self) -> list[nn.Module]:
        """The normalisation of every branch: the k×k ones', the 1×1 one's, the BN-only one."""
        norms = [branch.norm for branch in self.branches]
        norms += [] if self.scale is None else [self.scale.norm]
        return norms if self.skip is None else [*norms, self.skip]

    @torch.no_grad()
    def silence_new_branches(self) -> None:
        """Sets γ and β of every branch but the first to 0: the module then computes what its first branch does.

        That holds while training and in evaluation mode. Such a branch learns again: γ has a gradient.

        Raises:
            ValueError: the normalisations have no γ.
        """
        for norm in self.norms[1:]:
            if not norm.affine:
                raise ValueError("the function cannot be preserved: a normalisation without affine parameters has no γ "
                                 "to set to 0")
            nn.init.zeros_(norm.weight)
            nn.init.zeros_(norm.bias)

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """The one convolution, with bias, that equals this module in evaluation mode: W = Σ Ŵ_i, b = Σ b̂_i (§4.1)."""
        conv = self.branches[0].conv
        kernels, biases = zip(*self._affine_branches(), strict=True)
        fused = nn.utils.skip_init(
            nn.Conv2d, conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation,
            conv.groups, bias=True, padding_mode=conv.padding_mode, device=conv.weight.device, dtype=conv.weight.dtype)
        fused.weight.copy_(sum(kernels))
        fused.bias.copy_(sum(biases))
        fused.requires_grad_(conv.weight.requires_grad)
        return fused.train(self.training)

    def _affine_branches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each branch as the k×k kernel (C_out, C_in/groups, k, k) and bias (C_out,) that it computes, in float64."""
        for branch in self.branches:
            yield _fold(branch.conv.weight, branch.conv.bias, branch.norm)
        kernel = self.branches[0].conv.weight
        # A 1×1 kernel is a k×k kernel with zeros around it, since the padding of an eligible site is centred.
        kh, kw = kernel.shape[-2:]
        around = (kw // 2, kw // 2, kh // 2, kh // 2)
        if self.scale is not None:
            yield _fold(F.pad(self.scale.conv.weight, around), self.scale.conv.bias, self.scale.norm)
        if self.skip is not None:
            yield _fold(F.pad(torch.ones_like(kernel[..., :1, :1]), around), None, self.skip)


def _is_depthwise(conv: nn.Conv2d) -> bool:
    return conv.groups == conv.in_channels > 1


def _is_centred(conv: nn.Conv2d) -> bool:
    """Whether the kernel's centre lies on the pixel that a 1×1 convolution of the same stride would read."""
    return not isinstance(conv.padding, str) and conv.padding_mode == "zeros" and all(
        k % 2 == 1 and p == d * (k - 1) // 2
        for k, p, d in zip(conv.kernel_size, conv.padding, conv.dilation, strict=True))


def _pair(conv: nn.Conv2d, norm: nn.Module) -> nn.Sequential:
    pair = nn.Sequential()
    pair.add_module("conv", conv)
    pair.add_module("norm", norm)
    return pair


def _like(conv: nn.Conv2d, generator: torch.Generator) -> nn.Conv2d:
    """A convolution like this one with other weights of the same distribution, whichever initialiser drew them."""
    other = copy.deepcopy(conv)
    with torch.no_grad():
        order = torch.randperm(conv.weight.numel(), generator=generator, device="cpu").to(conv.weight.device)
        other.weight.copy_(conv.weight.flatten()[order].view_as(conv.weight))
    return other


def _scale_like(conv: nn.Conv2d, generator: torch.Generator) -> nn.Conv2d:
    scale = nn.utils.skip_init(nn.Conv2d, conv.in_channels, conv.out_channels, 1, conv.stride, groups=conv.groups,
                               bias=False, device=conv.weight.device, dtype=conv.weight.dtype)
    scale.weight.requires_grad = conv.weight.requires_grad
    scale.train(conv.training)
    with torch.no_grad():  # PyTorch's own initialisation of a convolution with one input value an output
        drawn = torch.empty(scale.weight.shape, device="cpu").uniform_(-1, 1, generator=generator)
        scale.weight.copy_(drawn)
    return scale


def _fresh(norm: nn.Module) -> nn.BatchNorm2d:
    other = copy.deepcopy(norm)
    other.reset_parameters()
    return other


def _fold(kernel: Tensor, bias: Tensor | None, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Convolution followed by BN with running statistics, as one affine convolution.

    Where another tool (MMCV's `fuse_conv_bn`) folded the two, an identity stands in place of the BN.
    In float64, so that the sum over the branches is exact to the last bit of float32; on the CPU, since not every
    accelerator has float64.
    """
    kernel = kernel.cpu().double()
    if isinstance(norm, nn.Identity):
        return kernel, kernel.new_zeros(len(kernel)) if bias is None else bias.cpu().double()
    mean, var = norm.running_mean.cpu().double(), norm.running_var.cpu().double()
    scale = torch.rsqrt(var + norm.eps)
    shift = -mean * scale if bias is None else (bias.cpu().double() - mean) * scale
    if norm.affine:
        weight, offset = norm.weight.cpu().double(), norm.bias.cpu().double()
        scale, shift = scale * weight, shift * weight + offset
    return kernel * scale.view(-1, 1, 1, 1), shift
