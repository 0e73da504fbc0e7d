"""The paper's training recipe (§5) as one frozen record."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ghostlib.config import Config
from ghostlib.models import catalog

Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]

# The EMA's decays are stated for the paper's run: 626 iterations an epoch (1,281,167 images ÷ 2048), 600 epochs.
PAPER_ITERATIONS = 626 * 600
# LAMB's learning rate scales with the square root of the batch (You et al., 2019); the paper's batch is 2048.
PAPER_BATCH = 2048


class Recipe(Config):
    """Every hyper-parameter of a training, with the paper's values as defaults.

    What the paper leaves open has the value of the nearest public source, named beside it. Durations are shares
    of the training, so that a short run means the same as a long one.
    """

    # -- network: what is deployed, and the branches it trains with (§4.1)
    network: str = "ghostnetv2_130"
    branches: int = Field(3, ge=0, description="N of Table 2; 0 trains the deployed network as it is")
    scale: bool = Field(True, description="the 1×1 depth-wise branch of Tables 2 and 5")
    skip: bool = Field(True, description="the BN-only branch of the authors' code")
    branch_gamma: Literal["one", "shared"] = Field("one", description="where each of B parallel normalisations' γ "
                                                   "begins: at 1, or at 1/√B")
    branch_norm_lr: Literal["whole", "shared"] = Field("whole", description="the rate of their γ and β: the others', "
                                                       "or 1/B of it")
    dropout: float = Field(0.0, ge=0, lt=1)

    # -- distillation (§4.2, §5.2)
    teacher: str | None = Field("BEiTv2-B", description="a teacher of the profile, or null for none")
    alpha: Share = Field(0.5, description="α of Eq. 3: the weight of the distillation loss")
    tau: float = Field(1.0, gt=0, description="τ of Eq. 4: the temperature of the logits")

    # -- optimisation (§5)
    optimizer: Literal["lamb", "rmsproptf", "sgd"] = "lamb"
    batch_size: int = Field(PAPER_BATCH, ge=2)
    epochs: int = Field(600, ge=1)
    lr: float = Field(5e-3, gt=0, description="the paper's, at batch 2048; see `effective_lr`")
    lr_scale: float = Field(1.0, gt=0, description="a profile's factor on every learning rate; ratios stay")
    momentum: Decay = Field(0.9, description="β1 of LAMB")
    weight_decay: float = Field(0.05, ge=0)
    max_grad_norm: float | None = Field(1.0, gt=0, description="of all gradients together; timm's LAMB default")

    # -- learning schedule (§4.3, §5.3)
    schedule: Literal["cosine", "step"] = "cosine"
    min_lr: float = Field(0.0, ge=0, description="where the schedule ends (cosine_0, cosine_1e-5 of Table 6)")
    warmup: Share = Field(5 / 600, description="share of training; vanillaKD's A1 recipe")
    warmup_lr: float = Field(1e-6, ge=0)
    step_interval: float = Field(2.4 / 450, gt=0, le=1, description="share of training; GhostNetV2's command")
    step_rate: float = Field(0.973, gt=0, le=1, description="GhostNetV2's command")

    # -- averaging (Eq. 5): all of `ema_decays` are tracked in one training, `ema_decay` is the one reported
    ema_decay: Decay = 0.9999
    ema_decays: tuple[Decay, ...] = Field((0.99, 0.999, 0.9999, 0.99995, 0.99999), min_length=1)

    # -- data augmentation (§4.4, §5.4)
    auto_augment: Literal["randaugment", "autoaugment"] | None = "randaugment"
    rand_magnitude: int = Field(9, ge=5, le=10, description="of RandAugment; GhostNetV2's command. Below 5 timm's "
                                  "posterize may be asked for 0 bits, which Pillow refuses")
    erasing: Share = Field(0.25, description="probability; the GhostNets used 0.2 to 0.25")
    mixup: float = Field(0.0, ge=0, description="α of Mixup's Beta; 0.2 in vanillaKD's A1 recipe")
    cutmix: float = Field(0.0, ge=0, description="α of CutMix's Beta; 1.0 in vanillaKD's A1 recipe")
    label_smoothing: Share = Field(0.0, description="Eq. 3 is plain cross-entropy; the authors' file has 0.1")
    crop_scale: tuple[Share, Share] = Field((0.08, 1.0), description="share of the area a random crop keeps")
    hflip: Share = 0.5

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.network not in catalog.names():
            raise ValueError(f"network = {self.network!r} is unknown; known: {', '.join(catalog.names())}")
        if self.network.startswith("ghostnetv3"):
            raise ValueError(f"network = {self.network!r}: name the network that is deployed, "
                             f"{self.network.replace('v3', 'v2')!r}, and let `branches` say what it trains with")
        if self.ema_decay not in self.ema_decays:
            raise ValueError(f"ema_decay = {self.ema_decay} is not among the tracked ema_decays {self.ema_decays}")
        if self.crop_scale[0] > self.crop_scale[1] or self.crop_scale[1] == 0:
            raise ValueError(f"crop_scale = {self.crop_scale} must be (least, most)")
        if self.batch_size % 2 and (self.mixup or self.cutmix):
            raise ValueError(f"batch_size = {self.batch_size} must be even: Mixup and CutMix pair images")
        return self

    @property
    def augmentation(self) -> str | None:
        """`auto_augment` in timm's notation."""
        policies = {"randaugment": f"rand-m{self.rand_magnitude}-mstd0.5", "autoaugment": "original", None: None}
        return policies[self.auto_augment]

    @property
    def rate_scale(self) -> float:
        """What every learning rate of the recipe is multiplied by: √(batch/2048) and the profile's factor."""
        return self.lr_scale * math.sqrt(self.batch_size / PAPER_BATCH)

    @property
    def effective_lr(self) -> float:
        """The learning rate that the optimiser gets."""
        return self.lr * self.rate_scale


def scaled_decay(decay: float, iterations: int) -> float:
    """The EMA decay that averages over the same share of a run of `iterations` as `decay` does over the paper's.

    β = 0.9999 averages over 1/(1-β) = 10,000 of the paper's 375,600 iterations, 2.7 % of the run. The result is
    clipped to [0, 1): on a very short run a small decay averages over less than one step, that is, not at all.
    """
    return max(0.0, 1 - (1 - decay) * PAPER_ITERATIONS / iterations)
