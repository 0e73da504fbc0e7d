"""The optimiser's groups of parameters: few, in order, and with MMEngine's settings."""

from __future__ import annotations

import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

import ghostlib.detection.optimizer  # noqa: F401 (registers what is tested)

CUSTOM = {"custom_keys": {"backbone": {"lr_mult": 0.25}, "neck": {"decay_mult": 0.0}}}


def parameters_with_settings(constructor: str, paramwise: dict) -> tuple[int, list[tuple]]:
    """How many groups there are, and each parameter with its settings, in the order that the optimiser has."""
    torch.manual_seed(0)
    block = nn.ModuleDict({"backbone": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), "neck": nn.Conv2d(4, 4, 1),
                           "head": nn.Sequential(nn.Conv2d(4, 2, 1), nn.Conv2d(2, 2, 1))})
    optimizer = build_optim_wrapper(block, {
        "type": "OptimWrapper", "constructor": constructor, "paramwise_cfg": paramwise,
        "optimizer": {"type": "AdamW", "lr": 0.008, "weight_decay": 0.05}}).optimizer
    names = {parameter: name for name, parameter in block.named_parameters()}
    return len(optimizer.param_groups), [(names[parameter], group["lr"], group["weight_decay"])
                                         for group in optimizer.param_groups for parameter in group["params"]]


def test_equal_neighbours_share_a_group_and_nothing_else_changes():
    groups, expected = parameters_with_settings("DefaultOptimWrapperConstructor", CUSTOM)
    few, found = parameters_with_settings("FewGroups", CUSTOM)
    assert (groups, few) == (10, 3) and found == expected


def test_without_settings_for_some_there_is_one_group():
    assert parameters_with_settings("FewGroups", {}) == parameters_with_settings("DefaultOptimWrapperConstructor", {})
