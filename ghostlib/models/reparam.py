"""Re-parameterisation (§4.1): one convolution, trained as a sum of parallel linear branches.

    network = add_branches(network)     # every eligible conv-BN pair becomes a RepConv
    ...train...
    network = reparameterize(network)   # one convolution a site again; the outputs do not change
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The conv-BN pairs that GhostNetV3 leaves alone: the DFC attention branch, the shortcut and the last 1×1 convolution.
GHOSTNET_EXCLUDE = ("*.short_conv.*", "*.shortcut.*", "blocks.9.*")


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
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, branches: int = 3, scale: bool = True,
                 skip: bool = True, seed: int = 0):
        super().__init__()
        if branches < 1:
            raise ValueError(f"branches must be at least 1, got {branches}")
        extras = _is_depthwise(conv) and conv.kernel_size != (1, 1) and _is_centred(conv)
        keeps_shape = conv.stride == (1, 1) and conv.in_channels == conv.out_channels
        generator = torch.Generator().manual_seed(seed)
        # Drawn even if it is not used: the next branches' weights depend on the order of the draws.
        one_by_one = _scale_like(conv, generator)
        self.branches = nn.ModuleList([
            _pair(conv, norm), *(_pair(_like(conv, generator), _fresh(norm)) for _ in range(branches - 1))])
        self.scale = _pair(one_by_one, _fresh(norm)) if extras and scale else None
        self.skip = _fresh(norm) if extras and skip and keeps_shape else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H', W'), the sum over the branches."""
        first, *others = self.branches
        out = first(x)
        for branch in others:
            out = out + branch(x)
        if self.scale is not None:
            out = out + self.scale(x)
        if self.skip is not None:
            out = out + self.skip(x)
        return out

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """The one convolution, with bias, that equals this module in evaluation mode: W = Σ Ŵ_i, b = Σ b̂_i (§4.1)."""
        conv = self.branches[0].conv
        kernels, biases = zip(*self._affine_branches(), strict=True)
        fused = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,
                          conv.dilation, conv.groups, bias=True, padding_mode=conv.padding_mode,
                          device=conv.weight.device, dtype=conv.weight.dtype)
        fused.weight.copy_(sum(kernels))
        fused.bias.copy_(sum(biases))
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
            yield _fold(F.pad(self.scale.conv.weight, around), None, self.scale.norm)
        if self.skip is not None:
            yield _fold(F.pad(torch.ones_like(kernel[..., :1, :1]), around), None, self.skip)


def add_branches(model: nn.Module, branches: int = 3, scale: bool = True, skip: bool = True,
                 exclude: Sequence[str] | None = None) -> nn.Module:
    """Turns, in place, every 1×1 or depth-wise convolution that a batch normalisation follows into a `RepConv`.

    A pair is a `Conv2d` and the `BatchNorm2d` of as many channels registered right behind it in the same parent module,
    which is how timm and torchvision write them. An activation inside the normalisation (timm's `BatchNormAct2d`) keeps
    its place. What is deployed does not change: `reparameterize` gives one convolution a site.

    Args:
        model: any network; it is changed.
        branches: the paper's re-parameterisation factor N (Table 2).
        scale: the 1×1 depth-wise branch (Tables 2 and 5).
        skip: the BN-only branch of the authors' code.
        exclude: names of modules to leave alone, as shell patterns. By default nothing, but for GhostNets what
            the authors leave alone (`GHOSTNET_EXCLUDE`).

    Returns:
        The same model.

    Raises:
        ValueError: the network holds no such pair, or `branches` is less than 1.
    """
    if branches < 1:
        raise ValueError(f"branches must be at least 1, got {branches}")
    if exclude is None:
        exclude = GHOSTNET_EXCLUDE if type(model).__name__ == "GhostNet" else ()
    found = list(sites(model, exclude))
    if not found:
        raise ValueError(f"{type(model).__name__} has no 1×1 or depth-wise convolution followed by a BatchNorm2d: "
                         "there is nothing to add branches to (was it expanded or folded before?)")
    # One draw from the global generator whatever is added: networks of one seed share every weight they both have.
    seed = int(torch.randint(2**31, ()))
    for site, (parent, conv_name, norm_name) in enumerate(found):
        conv, norm = getattr(parent, conv_name), getattr(parent, norm_name)
        plain = _without_activation(norm)
        setattr(parent, conv_name, RepConv(conv, plain, branches, scale, skip, seed + site))
        setattr(parent, norm_name, _activation_of(norm))
    return model


def reparameterize(model: nn.Module) -> nn.Module:
    """Folds every `RepConv` (and timm's own multi-branch blocks, e.g. MobileOne's) in place; returns the model.

    The outputs in evaluation mode do not change. A folded network does not change. It can be trained on.
    """
    from timm.utils import reparameterize_model

    # timm's function asks each child for `fuse()`; a model that is itself a RepConv has no parent to be replaced in.
    return model.fuse() if isinstance(model, RepConv) else reparameterize_model(model, inplace=True)


def sites(model: nn.Module, exclude: Sequence[str] = ()) -> Iterator[tuple[nn.Module, str, str]]:
    """The conv-BN pairs that `add_branches` would expand, as (parent module, name of the conv, name of the norm)."""
    for parent_name, parent in _outside_branches(model):
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in zip(children, children[1:], strict=False):
            full_name = f"{parent_name}.{conv_name}".lstrip(".")
            if _is_eligible(conv, norm) and not any(fnmatchcase(full_name, pattern) for pattern in exclude):
                yield parent, conv_name, norm_name


def _outside_branches(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """`named_modules`, but not what lies inside a module that folds itself: a branch is not expanded again.

    That is a `RepConv`, or one of timm's own multi-branch blocks (MobileOne, RepVGG, RepViT).
    """
    if not any(hasattr(module, fold) for fold in ("fuse", "reparameterize", "switch_to_deploy")):
        yield name, module
        for child_name, child in module.named_children():
            yield from _outside_branches(child, f"{name}.{child_name}".lstrip("."))


def _is_eligible(conv: nn.Module, norm: nn.Module) -> bool:
    # A subclass of Conv2d may do more than convolve (TensorFlow's padding, weight standardisation): exact type only.
    return (type(conv) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d) and norm.num_features == conv.out_channels
            and (conv.kernel_size == (1, 1) and conv.groups == 1 or _is_depthwise(conv)))


def _is_depthwise(conv: nn.Conv2d) -> bool:
    return conv.groups == conv.in_channels > 1


def _is_centred(conv: nn.Conv2d) -> bool:
    """Whether the kernel's centre lies on the pixel that a 1×1 convolution of the same stride would read."""
    return not isinstance(conv.padding, str) and conv.padding_mode == "zeros" and all(
        k % 2 == 1 and p == d * (k - 1) // 2
        for k, p, d in zip(conv.kernel_size, conv.padding, conv.dilation, strict=True))


def _pair(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Sequential:
    pair = nn.Sequential()
    pair.add_module("conv", conv)
    pair.add_module("norm", norm)
    return pair


def _like(conv: nn.Conv2d, generator: torch.Generator) -> nn.Conv2d:
    """A convolution like this one with other weights of the same distribution, whichever initialiser drew them."""
    other = copy.deepcopy(conv)
    with torch.no_grad():
        order = torch.randperm(conv.weight.numel(), generator=generator).to(conv.weight.device)
        other.weight.copy_(conv.weight.flatten()[order].view_as(conv.weight))
    return other


def _scale_like(conv: nn.Conv2d, generator: torch.Generator) -> nn.Conv2d:
    scale = nn.utils.skip_init(nn.Conv2d, conv.in_channels, conv.out_channels, 1, conv.stride, groups=conv.groups,
                               bias=False, device=conv.weight.device, dtype=conv.weight.dtype)
    with torch.no_grad():  # PyTorch's own initialisation of a convolution with one input value an output
        drawn = torch.empty(scale.weight.shape).uniform_(-1, 1, generator=generator)
        scale.weight.copy_(drawn)
    return scale


def _fresh(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    other = copy.deepcopy(norm)
    other.reset_parameters()
    return other


def _without_activation(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """The plain BatchNorm2d that shares this one's parameters and statistics."""
    if type(norm) is nn.BatchNorm2d:
        return norm
    plain = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    plain.weight, plain.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(plain, name, buffer)
    return plain.train(norm.training)


def _activation_of(norm: nn.BatchNorm2d) -> nn.Module:
    """What a timm `BatchNormAct2d` does after normalising: its drop and activation; an identity for a plain norm."""
    inner = [module for module in norm.children() if not isinstance(module, nn.Identity)]
    return inner[0] if len(inner) == 1 else nn.Sequential(*inner) if inner else nn.Identity()


def _fold(kernel: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Convolution followed by BN with running statistics, as one affine convolution.

    In float64, so that the sum over the branches is exact to the last bit of float32; on the CPU, since not every
    accelerator has float64.
    """
    kernel, mean, var = kernel.cpu().double(), norm.running_mean.cpu().double(), norm.running_var.cpu().double()
    scale = torch.rsqrt(var + norm.eps)
    shift = -mean * scale if bias is None else (bias.cpu().double() - mean) * scale
    if norm.affine:
        weight, offset = norm.weight.cpu().double(), norm.bias.cpu().double()
        scale, shift = scale * weight, shift * weight + offset
    return kernel * scale.view(-1, 1, 1, 1), shift
