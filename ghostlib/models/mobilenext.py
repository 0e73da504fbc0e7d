"""MobileNeXt: bottlenecks the classic way round, with the shortcut and the depth-wise convolutions on the wide side.

Zhou, Hou, Chen, Feng and Yan, "Rethinking Bottleneck Structure for Efficient Mobile Network Design", ECCV 2020.
"""

from __future__ import annotations

import math
from functools import partial

from timm.layers import make_divisible
from torch import Tensor, nn
from torchvision.ops.misc import Conv2dNormActivation

from ghostlib.models.classifier import ReplaceableClassifier, initialize

# Reduction inside the block, output channels at width 1.0, number of blocks, stride of the first.
STAGES = (
    (2, 96, 1, 2),
    (6, 144, 1, 1),
    (6, 192, 3, 2),
    (6, 288, 3, 2),
    (6, 384, 4, 1),
    (6, 576, 4, 2),
    (6, 960, 3, 1),
    (6, 1280, 1, 1),
)

_conv_norm = partial(Conv2dNormActivation, activation_layer=None)
_conv_norm_relu = partial(Conv2dNormActivation, activation_layer=nn.ReLU6)


class SandGlass(nn.Module):
    """3×3 depth-wise, 1×1 down to few channels, 1×1 up again, 3×3 depth-wise; the few channels are left linear.

    Args:
        channels: of the input.
        out_channels: of the output. With as many and stride 1 the input is added to the output, all of its channels
            (the paper's identity tensor multiplier is 1.0).
        stride: of the last convolution.
        reduction: how many times fewer channels there are inside; never less than a sixth of the output's.
        depthwise: whether to begin and end with a depth-wise convolution. A strided block ends with one anyway.
    """

    def __init__(self, channels: int, out_channels: int, stride: int = 1, reduction: int = 6, depthwise: bool = True):
        super().__init__()
        inner = channels // reduction
        if inner < out_channels / 6:
            inner = make_divisible(math.ceil(out_channels / 6), 16)
        layers = [_conv_norm(channels, inner, 1), _conv_norm_relu(inner, out_channels, 1)]
        if depthwise:
            layers.insert(0, _conv_norm_relu(channels, channels, 3, groups=channels))
        if depthwise or stride > 1:
            layers.append(_conv_norm(out_channels, out_channels, 3, stride, groups=out_channels))
        self.conv = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and channels == out_channels
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H / stride, W / stride)."""
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


class MobileNeXt(ReplaceableClassifier, nn.Module):
    """The network as the authors train it: 3.5 M parameters and 311 M multiply-accumulates at width 1.0 and 224 px.

    Args:
        num_classes: outputs of the classifier; 0 for none, which leaves the pooled features.
        width: multiplies every channel count, except that the last stage is never narrower than 1280.
        dropout: before the classifier.
    """

    def __init__(self, num_classes: int = 1000, width: float = 1.0, dropout: float = 0.0):
        super().__init__()
        layers = [_conv_norm_relu(3, make_divisible(32 * width), 3, 2)]
        for reduction, channels, blocks, stride in STAGES:
            out_channels = make_divisible(channels * (max(width, 1.0) if channels == 1280 else width))
            for block in range(blocks):
                # A stage's first block is lighter where others follow: so the authors' code has it, and so it has the
                # 311 M of later comparisons. With all blocks alike, as the paper draws them, it would have 319 M.
                layers.append(SandGlass(layers[-1].out_channels, out_channels, stride if block == 0 else 1, reduction,
                                        depthwise=block > 0 or blocks == 1))
        self.features = nn.Sequential(*layers)
        self.num_features = self.head_hidden_size = layers[-1].out_channels
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.dropout = nn.Dropout(dropout)
        self.reset_classifier(num_classes)
        self.apply(initialize)

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> (N, C, ⌈H / 32⌉, ⌈W / 32⌉)."""
        return self.features(x)

    def forward_head(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> logits (N, num_classes)."""
        return self.classifier(self.dropout(self.pool(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))
