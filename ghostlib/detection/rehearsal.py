"""What a configuration says of its training, tried before hours go by: MMEngine finds out only when it builds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ghostlib.config import ConfigError, check_keys, short

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch.optim import Optimizer

# What `loop.train` sets itself, whatever a configuration says.
OURS = ("work_dir", "log_level", "randomness", "resume", "load_from", "visualizer", "optim_wrapper.constructor",
        "train_cfg.val_begin", "default_hooks.checkpoint", "val_evaluator.outfile_prefix")
# What MMEngine's DefaultOptimWrapperConstructor asks for; it passes over everything else.
_PARAMWISE = ("custom_keys", "bias_lr_mult", "bias_decay_mult", "norm_decay_mult", "dwconv_decay_mult",
              "flat_decay_mult", "dcn_offset_lr_mult", "bypass_duplicate")


def rehearse(config: Config, where: str) -> None:
    """Builds the optimiser and the schedule of a configuration once, for a convolution of one weight.

    Args:
        config: the detector's, changed to a scale.
        where: what an error names as the place of these changes.

    Raises:
        ConfigError: MMEngine or PyTorch refuses something, or would pass over it.
    """
    for name, number in {"train_cfg.max_epochs": config.train_cfg.max_epochs,
                         "train_dataloader.batch_size": config.train_dataloader.batch_size}.items():
        if not isinstance(number, int) or number < 1:
            raise ConfigError(f"{where}: {name} = {short(number)} must be a whole number from 1 on")
    optimizer = _build(lambda: _optimizer(config), f"{where}: optim_wrapper")
    paramwise = config.optim_wrapper.get("paramwise_cfg") or {}
    check_keys(paramwise, _PARAMWISE, f"{where}: optim_wrapper.paramwise_cfg")
    for part, settings in paramwise.get("custom_keys", {}).items():
        check_keys(settings, ("lr_mult", "decay_mult", *optimizer.defaults),
                   f"{where}: optim_wrapper.paramwise_cfg.custom_keys.{part}")
    schedules = config.get("param_scheduler") or []
    for number, schedule in enumerate(schedules if isinstance(schedules, list) else [schedules]):
        _build(lambda schedule=schedule: _schedule(schedule, optimizer), f"{where}: param_scheduler.{number}")


def _optimizer(config: Config) -> Optimizer:
    from mmengine.optim import build_optim_wrapper
    from torch import nn

    wrapper = {name: value for name, value in config.optim_wrapper.to_dict().items()
               if name not in ("constructor", "paramwise_cfg")}
    return build_optim_wrapper(nn.Conv2d(1, 1, 1, bias=False), wrapper).optimizer


def _schedule(schedule: Any, optimizer: Optimizer) -> Any:
    from mmengine.registry import PARAM_SCHEDULERS

    return PARAM_SCHEDULERS.build(schedule, default_args={"optimizer": optimizer, "epoch_length": 10})


def _build(build: Any, where: str) -> Any:
    try:
        return build()
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        said = str(error.args[0] if error.args else error).partition(" Please check")[0]
        raise ConfigError(f"{where} cannot be built: {said}") from error
