"""Extensions of MMEngine's training: atomic checkpoints, a check of the data, evaluation of the folded detector."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import nn

from ghostlib.files import write_atomic
from ghostlib.mmdet.backbone import GhostBackbone
from ghostlib.mmdet.coco import PARTS, check_data
from ghostlib.models.reparam import RepConv, reparameterize, replace


@register_backend("AtomicBackend", force=True)
class AtomicBackend(LocalBackend):
    """Files that are whole or not there: `default_hooks.checkpoint.backend_args=dict(backend="AtomicBackend")`.

    MMEngine writes a checkpoint in place: a process killed in the middle leaves a torn one that cannot be resumed.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        write_atomic(Path(filepath), obj)


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Looks for every image and category before the first step, not when one turns out to be missing.

    Before a training for those of all loaders, before a validation or a test alone for its own.
    """

    def __init__(self) -> None:
        self.checked: set[str] = set()

    def before_train(self, runner: Any) -> None:
        self._check(runner, *PARTS)

    def before_val(self, runner: Any) -> None:  # of every epoch, too
        self._check(runner, "val")

    def before_test(self, runner: Any) -> None:
        self._check(runner, "test")

    def _check(self, runner: Any, *parts: str) -> None:
        check_data(runner.cfg, [part for part in parts if part not in self.checked])
        self.checked.update(parts)


@HOOKS.register_module()
class FoldHook(Hook):
    """Validates and tests a folded copy of the detector, as it is deployed; training continues with the branches.

    Where validation raises, nobody tells the hook: `runner.model` is the copy until the next training or validation.

    Raises:
        ValueError: a runner has two of them. MMEngine calls both in one order before a validation and after it, so that
            the second would put the first one's copy in the place of what the optimiser trains.
    """

    # After EMAHook (NORMAL) has put the averaged weights in place, and before a checkpoint is written (VERY_LOW).
    priority = "LOW"

    def before_run(self, runner: Any) -> None:
        if sum(isinstance(hook, FoldHook) for hook in runner.hooks) > 1:
            raise ValueError("custom_hooks names FoldHook twice; leave one out (the configurations of Table 10 have it "
                             "already)")
        self.after_val_epoch(runner)

    def before_val_epoch(self, runner: Any) -> None:
        self.after_val_epoch(runner)
        self.trained = runner.model
        runner.model = fold(runner.model)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        runner.model = vars(self).pop("trained", runner.model)

    before_test_epoch, after_test_epoch = before_val_epoch, after_val_epoch


def fold(detector: nn.Module) -> nn.Module:
    """A copy of a detector, or of a backbone, in evaluation mode with one convolution a site, which detects the same.

    This is the copy to export. A detector wrapped for DDP is copied without the wrapper.
    """
    folded = copy.deepcopy(detector.module if is_model_wrapper(detector) else detector).eval()
    for module in folded.modules():
        # What wraps a forward, as MMEngine's activation_checkpointing, is copied with the module that it was made for.
        if getattr(inspect.unwrap(module.forward), "__self__", module) is not module:
            del module.forward
    for backbone in [module for module in folded.modules() if isinstance(module, GhostBackbone)]:
        reparameterize(backbone.features)
        backbone.folded = True
    # And what somebody gave branches elsewhere. What folds itself there is another library's business.
    replace(folded, {site: site.fuse() for site in folded.modules() if isinstance(site, RepConv)})
    return folded
