"""Knowledge distillation (§4.2): Eq. 3 and Eq. 4, and a teacher that answers in the student's normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghostlib.config import hint
from ghostlib.training.images import DataError
from ghostlib.training.views import MEAN, STD

if TYPE_CHECKING:
    from timm.models import PretrainedCfg


def distillation_loss(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """Eq. 4, τ²·KL(teacher ‖ student), with the temperature on the logits.

    The paper prints softmax(Γ)/τ, which is no distribution for τ ≠ 1; Hinton et al. (2015) and the authors' meaning is
    softmax(Γ/τ). Mean over the batch, so that its scale is the cross-entropy's.

    Args:
        student: logits (N, K).
        teacher: logits (N, K).
        tau: temperature.
    """
    return tau**2 * F.kl_div(F.log_softmax(student / tau, -1), F.log_softmax(teacher / tau, -1), log_target=True,
                             reduction="batchmean")


def total_loss(student: Tensor, target: Tensor, teacher: Tensor | None = None, alpha: float = 0.5, tau: float = 1.0,
               label_smoothing: float = 0.0) -> Tensor:
    """Eq. 3, (1-α)·CE + α·KD; plain cross-entropy without a teacher.

    Args:
        student: logits (N, K).
        target: classes (N,), or probabilities (N, K) as Mixup and CutMix make them (already smoothed).
        teacher: logits (N, K) of the same views, or None.
    """
    smoothing = label_smoothing if target.ndim == 1 else 0.0
    cross_entropy = F.cross_entropy(student, target, label_smoothing=smoothing)
    if teacher is None:
        return cross_entropy
    return (1 - alpha) * cross_entropy + alpha * distillation_loss(student, teacher, tau)


class Teacher(nn.Module):
    """A frozen network in evaluation mode that takes the student's views.

    Args:
        network: the teacher; K outputs like the student.
        mean, std: the normalisation (3,) the teacher was trained with.
        student_mean, student_std: the normalisation (3,) of the views it will be given.
    """

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float],
                 student_mean: Sequence[float], student_std: Sequence[float]):
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        std, student_std = torch.tensor(std), torch.tensor(student_std)
        # (x·σ_s + μ_s - μ_t) / σ_t as one scale and shift a channel
        scale = student_std / std
        shift = (torch.tensor(student_mean) - torch.tensor(mean)) / std
        self.identical = bool((scale == 1).all() and (shift == 0).all())
        self.register_buffer("scale", scale.view(-1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(-1, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Teacher:
        """A teacher never trains: its BN statistics and dropout stay as they are."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, views: Tensor) -> Tensor:
        """Views (N, 3, H, W) in the student's normalisation -> logits (N, K)."""
        return self.network(views if self.identical else views * self.scale + self.shift)


def stand_in(network: nn.Module) -> Teacher:
    """A teacher that was trained here, on views in the student's normalisation."""
    return Teacher(network, MEAN, STD, MEAN, STD)


def pretrained(name: str, num_classes: int) -> Teacher:
    """A teacher by timm's name, with the weights that timm downloads.

    Raises:
        DataError: timm has no such weights, or cannot get them; the message says which file belongs where.
        ValueError: it was trained on another number of classes.
    """
    import timm

    known = timm.list_pretrained()
    if name not in known and name not in {tagged.partition(".")[0] for tagged in known}:
        raise DataError(f"teacher {name}: timm {timm.__version__} has no such weights; {hint(name, known)[:200]}")
    config = timm.get_pretrained_cfg(name)
    try:
        network = timm.create_model(name, pretrained=True)
    except Exception as error:  # of the hub, of its HTTP library or of the system
        raise DataError(f"teacher {name}: timm did not get its weights ({str(error).splitlines()[0][:200]}). "
                        f"{_where_weights_belong(config)}") from error
    if network.num_classes != num_classes:
        raise ValueError(f"teacher {name} knows {network.num_classes} classes, the profile has {num_classes}; choose a "
                         "teacher trained on the same classes")
    return Teacher(network, config.mean, config.std, MEAN, STD)


def _where_weights_belong(config: PretrainedCfg) -> str:
    """How a machine without a network gets a file that timm downloads elsewhere."""
    if config.hf_hub_id:
        from huggingface_hub.constants import HF_HUB_CACHE

        cached = f"models--{config.hf_hub_id.replace('/', '--')}"
        return (f"On a machine with a network, `hf download {config.hf_hub_id} model.safetensors config.json` puts "
                f"them into ~/.cache/huggingface/hub/{cached}; copy that folder into {HF_HUB_CACHE} here, and set "
                "HF_HUB_OFFLINE=1")
    return f"Download {config.url} elsewhere and put it here into {Path(torch.hub.get_dir(), 'checkpoints')}"
