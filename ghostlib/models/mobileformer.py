"""Mobile-Former: a MobileNet over the pixels beside a transformer over a few tokens, bridged both ways in every block.

Chen, Dai, Chen, Liu, Dong, Yuan and Liu, "Mobile-Former: Bridging MobileNet and Transformer", CVPR 2022.

The sizes are those of the authors' published weights, which have the paper's parameters to every digit it prints. The
paper's multiply-accumulates are met within 0.6 % if normalisations count, at two operations a value; which element-wise
work its authors counted is not stated. Convolutions, linear layers and attention alone are 49.3, 92.0 and 498.5 M.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.misc import Conv2dNormActivation

from ghostlib.models.classifier import ReplaceableClassifier, initialize

BRIDGE_HEADS, FORMER_HEADS = 2, 4


@dataclass(frozen=True)
class Variant:
    """One size of the network.

    Attributes:
        tokens: how many global tokens, T.
        dim: their dimension D.
        stem: channels behind the stem.
        blocks: expansion, output channels and stride of each. The first is the lite bottleneck, without tokens.
        hidden: units between the two fully connected layers of the head.
    """

    tokens: int
    dim: int
    stem: int
    blocks: tuple[tuple[int, int, int], ...]
    hidden: int


# By the millions of multiply-accumulates at 224 px.
VARIANTS = {
    "52": Variant(3, 128, 8, (
        (3, 12, 2), (3, 12, 1), (6, 24, 2), (3, 24, 1), (6, 48, 2), (4, 48, 1), (6, 64, 1), (6, 96, 2), (6, 96, 1),
    ), 1024),
    "96": Variant(4, 128, 12, (
        (2, 12, 1), (6, 16, 2), (6, 32, 2), (3, 32, 1), (6, 64, 2), (4, 64, 1), (6, 88, 1), (6, 128, 2), (6, 128, 1),
    ), 1280),
    "508": Variant(6, 192, 24, (
        (2, 24, 1), (6, 40, 2), (3, 40, 1), (6, 72, 2), (3, 72, 1), (6, 128, 2), (4, 128, 1), (6, 176, 1), (6, 176, 1),
        (6, 240, 2), (6, 240, 1), (6, 240, 1),
    ), 1920),
}

_conv_norm = partial(Conv2dNormActivation, activation_layer=None)
_conv_norm_relu = partial(Conv2dNormActivation, activation_layer=nn.ReLU6)


class DynamicReLU(nn.Module):
    """max(a·x, b·x), with slopes a in [0, 2] and b in [-1, 1] for each channel that the first token decides.

    It begins near ReLU: a = 1, b = 0 where the linear layers give 0.
    """

    def __init__(self, channels: int, dim: int):
        super().__init__()
        self.slopes = nn.Sequential(nn.Linear(dim, dim // 4), nn.ReLU(), nn.Linear(dim // 4, 2 * channels),
                                    nn.Hardsigmoid())

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        """(N, C, H, W) and the first token (N, D) -> (N, C, H, W)."""
        a, b = self.slopes(token)[:, :, None, None].chunk(2, dim=1)
        return torch.maximum(2 * a * x, (2 * b - 1) * x)


class Bottleneck(nn.Module):
    """Mobile, at stride 1: MobileNetV2's block with dynamic ReLU."""

    def __init__(self, channels: int, out_channels: int, expansion: int, dim: int):
        super().__init__()
        inner = channels * expansion
        self.expand, self.act1 = _conv_norm(channels, inner, 1), DynamicReLU(inner, dim)
        self.depthwise, self.act2 = _conv_norm(inner, inner, 3, groups=inner), DynamicReLU(inner, dim)
        self.reduce = _conv_norm(inner, out_channels, 1)
        self.has_shortcut = channels == out_channels

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        """(N, C_in, H, W) and the first token (N, D) -> (N, C_out, H, W)."""
        out = self.act1(self.expand(x), token)
        out = self.reduce(self.act2(self.depthwise(out), token))
        return x + out if self.has_shortcut else out


class Downsample(nn.Module):
    """Mobile, at stride 2: two pairs of a depth-wise convolution that expands and a 1×1 convolution that reduces."""

    def __init__(self, channels: int, out_channels: int, expansion: int, dim: int):
        super().__init__()
        inner1, inner2 = channels * expansion, out_channels * 4  # the second expansion is 4 in all variants
        self.depthwise1, self.act1 = _conv_norm(channels, inner1, 3, 2, groups=channels), DynamicReLU(inner1, dim)
        self.reduce1 = _conv_norm(inner1, out_channels, 1)
        self.depthwise2, self.act2 = _conv_norm(out_channels, inner2, 3, groups=out_channels), DynamicReLU(inner2, dim)
        self.reduce2 = _conv_norm(inner2, out_channels, 1)

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        """(N, C_in, H, W) and the first token (N, D) -> (N, C_out, ⌈H / 2⌉, ⌈W / 2⌉)."""
        x = self.reduce1(self.act1(self.depthwise1(x), token))
        return x + self.reduce2(self.act2(self.depthwise2(x), token))


class LiteBottleneck(nn.Sequential):
    """The first block, without tokens: a depth-wise convolution that expands and a 1×1 convolution that reduces."""

    def __init__(self, channels: int, out_channels: int, expansion: int, stride: int):
        inner = channels * expansion
        super().__init__(_conv_norm_relu(channels, inner, 3, stride, groups=channels),
                         _conv_norm(inner, out_channels, 1))
        self.has_shortcut = stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ⌈H / stride⌉, ⌈W / stride⌉)."""
        return x + super().forward(x) if self.has_shortcut else super().forward(x)


class MobileToFormer(nn.Module):
    """The tokens look at the pixels, which are keys and values as they are, without projections."""

    def __init__(self, channels: int, dim: int):
        super().__init__()
        self.query, self.project, self.norm = nn.Linear(dim, channels), nn.Linear(channels, dim), nn.LayerNorm(dim)
        # The authors' weights have this gate. Without it 508 has 13.7 M parameters, where the paper prints 14.0.
        self.gate = nn.Sequential(nn.Linear(dim, channels), nn.Hardsigmoid())

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """(N, C, H, W) and tokens (N, T, D) -> tokens (N, T, D)."""
        pixels = _pixels(x)
        seen = _attend(self.query(tokens), pixels, pixels, BRIDGE_HEADS)
        return self.norm(tokens + self.project(2 * self.gate(tokens) * seen))


class Former(nn.Module):
    """A transformer layer over the tokens, normalised behind each residual sum, its MLP expanding twofold."""

    def __init__(self, dim: int):
        super().__init__()
        # As in the bridge, keys and values are not projected: with projections 508 would have 14.8 M parameters.
        self.query, self.project, self.norm1 = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, D)."""
        tokens = self.norm1(tokens + self.project(_attend(self.query(tokens), tokens, tokens, FORMER_HEADS)))
        return self.norm2(tokens + self.mlp(tokens))


class FormerToMobile(nn.Module):
    """The pixels, which are queries as they are, look at the tokens; what they see is added to them."""

    def __init__(self, channels: int, dim: int):
        super().__init__()
        self.key, self.value = nn.Linear(dim, channels), nn.Linear(dim, channels)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """(N, C, H, W) and tokens (N, T, D) -> (N, C, H, W)."""
        seen = _attend(_pixels(x), self.key(tokens), self.value(tokens), BRIDGE_HEADS)  # (N, H·W, C)
        return x + seen.transpose(1, 2).reshape(x.shape)


class Block(nn.Module):
    """Mobile → Former, Former, Mobile, Former → Mobile."""

    def __init__(self, channels: int, out_channels: int, expansion: int, stride: int, dim: int):
        super().__init__()
        self.to_former, self.former = MobileToFormer(channels, dim), Former(dim)
        self.mobile = (Downsample if stride == 2 else Bottleneck)(channels, out_channels, expansion, dim)
        self.to_mobile = FormerToMobile(out_channels, dim)

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C_in, H, W), (N, T, D) -> (N, C_out, H / stride, W / stride), (N, T, D)."""
        tokens = self.former(self.to_former(x, tokens))
        return self.to_mobile(self.mobile(x, tokens[:, 0]), tokens), tokens


class MobileFormer(ReplaceableClassifier, nn.Module):
    """The network for classification.

    Args:
        variant: one of `VARIANTS`.
        num_classes: outputs of the classifier; 0 for none, which leaves the features in front of it.
        dropout: before the classifier.

    Raises:
        ValueError: an unknown variant.
    """

    def __init__(self, variant: str, num_classes: int = 1000, dropout: float = 0.0):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"unknown variant {variant!r} of Mobile-Former; known: {', '.join(VARIANTS)}")
        size = VARIANTS[variant]
        (expansion, channels, stride), *blocks = size.blocks
        self.tokens = nn.Parameter(torch.randn(size.tokens, size.dim))
        self.stem = nn.Sequential(_conv_norm_relu(3, size.stem, 3, 2),
                                  LiteBottleneck(size.stem, channels, expansion, stride))
        self.blocks = nn.ModuleList()
        for expansion, out_channels, stride in blocks:
            self.blocks.append(Block(channels, out_channels, expansion, stride, size.dim))
            channels = out_channels
        self.to_former = MobileToFormer(channels, size.dim)
        self.widen = _conv_norm_relu(channels, 6 * channels, 1)
        self.merge = nn.Sequential(nn.Linear(6 * channels + size.dim, size.hidden), nn.BatchNorm1d(size.hidden),
                                   nn.Hardswish())
        self.num_features, self.head_hidden_size = channels, size.hidden
        self.dropout = nn.Dropout(dropout)
        self.reset_classifier(num_classes)
        self.apply(initialize)

    def forward_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 3, H, W) -> local features (N, C, ⌈H / 32⌉, ⌈W / 32⌉) and tokens (N, T, D)."""
        tokens = self.tokens.expand(x.shape[0], -1, -1)
        x = self.stem(x)
        for block in self.blocks:
            x, tokens = block(x, tokens)
        return x, self.to_former(x, tokens)

    def forward_head(self, features: tuple[Tensor, Tensor]) -> Tensor:
        """Local features (N, C, H, W) and tokens (N, T, D) -> logits (N, num_classes)."""
        x, tokens = features
        pooled = F.hardswish(self.widen(x).mean((2, 3)))
        return self.classifier(self.dropout(self.merge(torch.cat([pooled, tokens[:, 0]], dim=1))))

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))


def _pixels(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H·W, C)."""
    return x.flatten(2).transpose(1, 2)


def _attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """softmax(Q·Kᵀ / √c)·V in each head of c = C / heads channels: (N, A, C), (N, B, C), (N, B, C) -> (N, A, C)."""
    q, k, v = (t.unflatten(2, (heads, -1)).transpose(1, 2) for t in (queries, keys, values))  # (N, heads, A or B, c)
    weights = torch.softmax(q @ k.transpose(2, 3) * q.shape[-1] ** -0.5, dim=-1)  # (N, heads, A, B)
    return (weights @ v).transpose(1, 2).flatten(2)
