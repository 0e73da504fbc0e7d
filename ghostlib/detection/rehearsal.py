"""What a configuration says of its training, tried before hours go by: MMEngine finds out only when it builds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ghostlib.config import ConfigError, check_keys, mapping, short
from ghostlib.detection.configure import WHERE, change, config_file
from ghostlib.models import catalog

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmengine.config import Config
    from torch.optim import Optimizer

    from ghostlib.detection.scale import Scale

# What MMEngine's DefaultOptimWrapperConstructor asks for; it passes over everything else.
_PARAMWISE = ("custom_keys", "bias_lr_mult", "bias_decay_mult", "norm_decay_mult", "dwconv_decay_mult",
              "flat_decay_mult", "dcn_offset_lr_mult", "bypass_duplicate")


def check(scale: Scale) -> None:
    """Whether the configurations of Table 10 can be changed to a scale, and trained by; no data is read for it.

    Raises:
        ConfigError: see `configure.configure`; or MMEngine or PyTorch refuses something, or would pass over it.
    """
    from mmengine.config import Config

    of_sides = {side: arch for arch, side in catalog.backbones().values()}  # whatever the backbone, they differ no more
    for side, arch in of_sides.items():
        file = config_file(arch, side)
        change(config := Config.fromfile(file), scale, file)
        _rehearse(config, f"{WHERE}.options")


def _rehearse(config: Config, where: str) -> None:
    """Builds the optimiser and the schedule of a configuration once, for a convolution of one weight."""
    _check_whole(config, where, "train_cfg", "max_epochs", 1)
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        _check_whole(config, where, loader, "batch_size", 1)
        _check_whole(config, where, loader, "num_workers", 0)
    optimizer = _build(lambda: _optimizer(config), f"{where}: optim_wrapper")
    paramwise, place = config.optim_wrapper.get("paramwise_cfg") or {}, f"{where}: optim_wrapper.paramwise_cfg"
    check_keys(paramwise, _PARAMWISE, place)
    for part, settings in mapping(paramwise.get("custom_keys", {}), f"{place}.custom_keys").items():
        check_keys(settings, ("lr_mult", "decay_mult", *optimizer.defaults), f"{place}.custom_keys.{part}")
    schedules = config.get("param_scheduler") or []
    for number, schedule in enumerate(schedules if isinstance(schedules, list) else [schedules]):
        _build(lambda schedule=schedule: _schedule(schedule, optimizer), f"{where}: param_scheduler.{number}")


def _check_whole(config: Config, where: str, section: str, key: str, least: int) -> None:
    number = mapping(config.get(section), f"{where}: {section}").get(key)
    if not isinstance(number, int) or number < least:
        raise ConfigError(f"{where}: {section}.{key} = {short(number)} must be a whole number from {least} on")


def _optimizer(config: Config) -> Optimizer:
    from mmengine.optim import build_optim_wrapper
    from torch import nn

    # Mixed precision wants the device that will train, which need not be this one.
    wrapper = {"type": "OptimWrapper", "optimizer": config.optim_wrapper.to_dict().get("optimizer")}
    return build_optim_wrapper(nn.Conv2d(1, 1, 1, bias=False), wrapper).optimizer


def _schedule(schedule: Any, optimizer: Optimizer) -> Any:
    from mmengine.registry import PARAM_SCHEDULERS

    return PARAM_SCHEDULERS.build(schedule, default_args={"optimizer": optimizer, "epoch_length": 10})


def _build(build: Callable[[], Any], where: str) -> Any:
    try:
        return build()
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        said = str(error.args[0] if error.args else error).partition(" Please check")[0]
        raise ConfigError(f"{where} cannot be built: {said}") from error
