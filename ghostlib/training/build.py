"""What a recipe builds: the network, its optimiser, its schedule, and Mixup."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from timm.data import Mixup
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler, StepLRScheduler
from torch import nn
from torch.optim import Optimizer

from ghostlib.models import catalog, reparam, zoo
from ghostlib.models.rep_conv import RepConv
from ghostlib.training.recipe import Recipe

if TYPE_CHECKING:
    from timm.scheduler.scheduler import Scheduler


def build_network(recipe: Recipe, num_classes: int, width_scale: float = 1.0, image_size: int | None = None,
                  patch_size: int | None = None) -> nn.Module:
    """The recipe's network in its training form, its width times the profile's `width_scale`."""
    width = catalog.find(recipe.network).width and catalog.default_width(recipe.network) * width_scale
    network = zoo.create(recipe.network, num_classes, width, dropout=recipe.dropout, image_size=image_size,
                         patch_size=patch_size)
    if recipe.branches:
        reparam.add_branches(network, recipe.branches, recipe.scale, recipe.skip)
    if recipe.branch_gamma == "shared":
        with torch.no_grad():
            for gamma, branches in _branch_parameters(network, "weight"):
                gamma.mul_(branches**-0.5)
    return network


def build_optimizer(recipe: Recipe, model: nn.Module) -> Optimizer:
    """The recipe's optimiser; biases, BN parameters and other 1-D parameters are not decayed."""
    options = {
        # eps 1e-6 and β2 0.999 are timm's LAMB defaults, stated so that they are part of the recipe
        "lamb": dict(betas=(recipe.momentum, 0.999), eps=1e-6, max_grad_norm=recipe.max_grad_norm, foreach=True),
        "rmsproptf": dict(momentum=recipe.momentum, eps=1e-3),
        "sgd": dict(momentum=recipe.momentum, nesterov=True),
    }[recipe.optimizer]
    kept = getattr(model, "no_weight_decay", set)()  # a transformer's embeddings, as timm leaves them out
    groups = param_groups_weight_decay(model, recipe.weight_decay, no_weight_decay_list=kept)
    if recipe.branch_norm_lr == "shared":
        share = {id(parameter): 1 / branches for parameter, branches in _branch_parameters(model, "weight", "bias")}
        groups = [{**group, "params": [p for p in group["params"] if share.get(id(p), 1.0) == scale], "lr_scale": scale}
                  for group in groups for scale in sorted({share.get(id(p), 1.0) for p in group["params"]})]
    # A group's lr_scale multiplies what the schedule gives.
    return create_optimizer_v2(groups, recipe.optimizer, lr=recipe.effective_lr, weight_decay=0.0, **options)


def _branch_parameters(network: nn.Module, *names: str) -> Iterator[tuple[nn.Parameter, int]]:
    """The parameters of parallel normalisations, each with how many are parallel to it."""
    for site in network.modules():
        if isinstance(site, RepConv):
            yield from ((getattr(norm, name), len(site.norms)) for norm in site.norms for name in names)


def build_scheduler(recipe: Recipe, optimizer: Optimizer, iterations: int) -> Scheduler:
    """The schedule over `iterations` updates; `step_update(i)` sets the rate of update i, whatever came before."""
    class StepToMinimum(StepLRScheduler):
        """timm's steps, which know no minimum, ending at one as its cosine does."""

        def _get_lr(self, t: int) -> list[float]:
            rates = super()._get_lr(t)
            return rates if t < self.warmup_t else [max(rate, minimum) for rate in rates]

    minimum = recipe.min_lr * recipe.rate_scale
    common = dict(warmup_t=round(recipe.warmup * iterations), warmup_lr_init=recipe.warmup_lr * recipe.rate_scale,
                  t_in_epochs=False)
    if recipe.schedule == "step":
        return StepToMinimum(optimizer, decay_t=recipe.step_interval * iterations, decay_rate=recipe.step_rate,
                             warmup_prefix=False, **common)
    return CosineLRScheduler(optimizer, t_initial=iterations, lr_min=minimum, **common)


def build_mixup(recipe: Recipe, num_classes: int) -> Mixup | None:
    """timm's Mixup/CutMix of a batch, or None where the recipe has neither."""
    if not (recipe.mixup or recipe.cutmix):
        return None
    return Mixup(mixup_alpha=recipe.mixup, cutmix_alpha=recipe.cutmix, label_smoothing=recipe.label_smoothing,
                 num_classes=num_classes)
