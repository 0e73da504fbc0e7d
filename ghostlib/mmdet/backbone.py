"""The networks of the zoo as backbones: MMDetection builds one by `type="GhostBackbone"`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ghostlib.models import misfit, zoo
from ghostlib.models import weights as weight_files
from ghostlib.models.reparam import reparameterize


@MODELS.register_module()
class GhostBackbone(BaseModule):
    """A network of the zoo that returns the last feature map of each stride; a GhostNetV3 has its branches.

    Args:
        arch: one of `zoo.names()`.
        out_indices: the maps to return, in ascending order. Most networks have 0 to 4, at strides 2, 4, 8, 16 and 32.
        frozen_stages: freezes the maps up to this index, and every layer before them; -1 freezes nothing.
        norm_eval: keeps the running statistics of every normalisation fixed during training.
        norm_cfg: MMDetection's: a `type`, "BN" or "SyncBN" (statistics over all processes of a DDP training), and
            `requires_grad`, `eps` and `momentum` where they differ from the network's own.
        width: multiplies every channel count of the 1.0× network; by default the width in the name.
        weights: a file with ImageNet weights of this network, in any layout that `weights.load` knows; the classifier
            in it is ignored. It is read where MMEngine initialises weights: when a training starts, not for inference.
            It expects images as `zoo.default_cfg(arch)` says, so see to the detector's `data_preprocessor`.
        ema: takes the averaged weights from a file that holds both.
        folded: has no branches, for the checkpoint of a folded detector (`fold`), which is for tests and export.
        init_cfg: MMEngine's initialisation, e.g. dict(type="Pretrained", checkpoint=..., prefix="backbone.").

    Attributes:
        channels: the number of channels of each map, finest map first.
        strides: the stride of each map (px), finest map first.

    Raises:
        ValueError: an option of another type, an unknown network, a map or stage that it does not have, a normalisation
            that it cannot have, or options that exclude each other.
        WeightsError: whatever loads a checkpoint into it, strictly or not, where that has the backbone in another form,
            or lacks some of its tensors, or has them in other shapes, as of another network, width or naming.
    """

    def __init__(self, arch: str, out_indices: Sequence[int] = (2, 3, 4), frozen_stages: int = -1,
                 norm_eval: bool = False, norm_cfg: dict[str, Any] | None = None, width: float | None = None,
                 weights: str | None = None, ema: bool = False, folded: bool = False,
                 init_cfg: dict | list[dict] | None = None):
        super().__init__(init_cfg)
        if not isinstance(out_indices, Sequence) or not all(isinstance(index, Integral) for index in out_indices):
            raise ValueError(f"out_indices = {out_indices!r} must be a sequence of whole numbers, as (4,) for one map")
        for name, value, kind, told in (
                ("frozen_stages", frozen_stages, Integral, "a whole number"), ("norm_eval", norm_eval, bool, "a bool"),
                ("norm_cfg", norm_cfg or {}, Mapping, "a dict"), ("width", width or 1, Real, "a number"),
                ("ema", ema, bool, "a bool"), ("folded", folded, bool, "a bool")):
            if not isinstance(value, kind) or isinstance(value, bool) and kind is not bool:
                raise ValueError(f"{name} = {value!r} must be {told}")
        if ema and not weights:
            raise ValueError("ema = True says which weights to take from a file; name it with weights")
        if weights and init_cfg:
            raise ValueError(f"the backbone has weights = {weights!r} and init_cfg = {init_cfg}; remove one of them")
        if folded and weights:
            raise ValueError(f"a folded backbone is not trained; remove weights = {weights!r}, or folded = True")
        # Neck and head are initialised next: behind every backbone they draw the same, so a seed pairs the detectors.
        with torch.random.fork_rng(devices=[]):
            features = zoo.features(arch, tuple(out_indices), width)
        if zoo.default_cfg(arch)["fixed_input_size"]:
            raise ValueError(f"{arch} is built for images of one size, which a detector's do not have")
        taps = list(features.feature_info.out_indices)
        if not taps or taps != sorted(set(taps)):
            raise ValueError(f"out_indices = {tuple(out_indices)} must name maps in ascending order, from the finest "
                             "on")
        if not -1 <= frozen_stages <= taps[-1]:
            raise ValueError(f"frozen_stages = {frozen_stages} must be between -1 (none) and {taps[-1]}, the last of "
                             "out_indices")
        self.arch, self.width, self.weights, self.ema, self.folded = arch, width, weights, ema, folded
        self.frozen_stages, self.norm_eval = frozen_stages, norm_eval
        self.channels = tuple(features.feature_info.channels())
        self.strides = tuple(features.feature_info.reduction())
        self.features = _with_norms(features, arch, norm_cfg or {})
        self.activations_in_norms = sorted({type(norm).__name__ for norm in _norms(features)} - {"BatchNorm2d",
                                                                                                "SyncBatchNorm"})
        if folded:
            reparameterize(self.features)
        for module in self._frozen():
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad = False

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (N, 3, H, W) -> a map (N, channels[i], H/strides[i], W/strides[i]) for each index in `out_indices`."""
        return tuple(self.features(images))

    def init_weights(self) -> None:
        """Initialises by MMEngine's `init_cfg` or from the file `weights`.

        Raises:
            FileNotFoundError: there is no such file.
            WeightsError: it holds weights of another network, or in another form, or they are not for training.
        """
        super().init_weights()
        if self.weights:
            self._load(self.weights)

    def train(self, mode: bool = True) -> GhostBackbone:
        """As `nn.Module.train`, but normalisations that keep their statistics stay in evaluation mode.

        Raises:
            ValueError: a conversion to SyncBN has dropped the network's activations.
        """
        super().train(mode)
        if self.activations_in_norms and any(type(module).__name__ == "SyncBatchNorm" for module in self.modules()):
            raise ValueError(f"sync_bn: {_would_drop(self.arch, self.activations_in_norms)}; remove it")
        for module in self.modules() if self.norm_eval else self._frozen():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Refuses what PyTorch and MMEngine would load in part, and MMEngine with a warning at most."""
        own = self.state_dict()
        state = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
        if state and not state.keys() & own.keys():
            raise weight_files.WeightsError(
                f"checkpoint: none of its {len(state)} tensors{f' in {prefix}' * bool(prefix)} has a name of this "
                f"backbone, {self.arch}. Of a detector's checkpoint set prefix=\"backbone.\" in init_cfg; name a "
                "classifier's file with the option weights; to load a detector's other parts alone take its backbone "
                "out of the file")
        if own.keys() - state.keys() and state.keys() - own.keys() and misfit.of_form(state, own):
            theirs, ours = ("has branches" if misfit.has_branches(names) else "has none" for names in (state, own))
            differ = (f"its backbone {theirs}, this one {ours}" if theirs != ours else "of its backbone and this one "
                      "one is folded and the other is plain")
            raise weight_files.WeightsError(
                f"checkpoint: {differ} (model.backbone: arch = {self.arch!r}, folded = {self.folded}). What a folded "
                "detector has saved takes folded=True and the arch that it was trained with, a training's checkpoint "
                "folded=False; a plain GhostNet is ghostnetv2_..., one with branches ghostnetv3_...")
        amiss = [name for name, tensor in own.items() if not name.endswith("num_batches_tracked")
                 and (name not in state or state[name].shape != tensor.shape)]
        if state and amiss:
            raise weight_files.WeightsError(
                f"checkpoint: {len(amiss)} of this backbone's {len(own)} tensors are missing or of another shape, e.g. "
                f"{amiss[0]}. Set arch and width to those that it was trained with (model.backbone: arch = "
                f"{self.arch!r}, width = {self.width}), and out_indices to no more maps than that had")
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _frozen(self) -> list[nn.Module]:
        """Every module between the image and the map `frozen_stages`."""
        if self.frozen_stages < 0:
            return []
        tap = self.features.feature_info.module_name(self.frozen_stages)
        named = dict(self.features.named_modules())
        *_, last = named.get(_in_feature_network(tap), named.get(tap)).modules()
        modules = list(self.features.modules())  # registered in the order they run
        return modules[:modules.index(last) + 1]

    def _load(self, path: str) -> None:
        """Copies a file's weights into the parameters, which an optimiser may hold already."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"backbone.weights = {path!r}: there is no such file (a relative path starts "
                                    f"at {Path.cwd()})")
        with torch.random.fork_rng(devices=[]):  # as in __init__
            network = zoo.create(self.arch, width=self.width)
        try:
            deployed = not self.norm_eval and weight_files.is_deployed(path, ema=self.ema)
            report = None if deployed else weight_files.load(network, path, ema=self.ema, strict=False)
        except weight_files.WeightsError as error:
            raise weight_files.WeightsError(
                f"backbone.weights = {path!r}, arch = {self.arch!r}: {error} A configuration names the arch and the "
                "width of the file: ghostnetv3_... for a GhostNet with branches, ghostnetv2_... for a plain one. Of "
                "another network that `ghostlib train` gave branches take the model.safetensors, with norm_eval=True"
            ) from error
        if deployed:
            beside = ("take the ema.safetensors beside it, with a ghostnetv3_... as arch, or "
                      if self.arch.startswith(("ghostnetv2_", "ghostnetv3_")) else "")
            raise weight_files.WeightsError(
                f"backbone.weights = {path!r} is of a network to deploy, whose normalisations add a bias and would "
                f"normalise again while it trains; {beside}set norm_eval=True")
        differing = [*report.missing, *report.unexpected, *(name for name, _, _ in report.mismatched)]
        if wrong := [name for name in differing if not name.startswith(network.default_cfg["classifier"])]:
            raise weight_files.WeightsError(
                f"backbone.weights = {path!r} does not fit {self.arch}: {report}. All but the classifier must fit, and "
                f"{wrong[0]} does not; set arch and width to those that the file was trained with")
        state = network.state_dict()
        state |= {_in_feature_network(name): tensor for name, tensor in state.items()}
        self.features.load_state_dict({name: state[name] for name in self.features.state_dict()})


def _in_feature_network(name: str) -> str:
    """The name of a module or parameter in timm's feature network, which flattens the sequences at the top."""
    return name.replace(".", "_", 1)


def _with_norms(features: nn.Module, arch: str, norm_cfg: dict[str, Any]) -> nn.Module:
    """The network with the normalisations that a `norm_cfg` describes."""
    kind, settings = norm_cfg.get("type", "BN"), {"eps", "momentum", "requires_grad"}
    if kind not in ("BN", "SyncBN") or set(norm_cfg) - settings - {"type"}:
        raise ValueError(f"norm_cfg = {dict(norm_cfg)}: {arch} takes the types BN and SyncBN, with "
                         f"{', '.join(sorted(settings))}")
    norms = _norms(features)
    for norm in norms:
        norm.eps, norm.momentum = norm_cfg.get("eps", norm.eps), norm_cfg.get("momentum", norm.momentum)
        for parameter in norm.parameters(recurse=False):
            parameter.requires_grad = norm_cfg.get("requires_grad", True)
    if kind == "BN":
        return features
    if with_activation := {type(norm).__name__ for norm in norms} - {"BatchNorm2d"}:
        raise ValueError(f"norm_cfg: {_would_drop(arch, with_activation)}; use BN")
    return nn.SyncBatchNorm.convert_sync_batchnorm(features)


def _norms(features: nn.Module) -> list[_BatchNorm]:
    return [module for module in features.modules() if isinstance(module, _BatchNorm)]


def _would_drop(arch: str, with_activation: Iterable[str]) -> str:
    return (f"{arch} has activations inside its normalisations ({', '.join(with_activation)}), which PyTorch's and "
            "MMEngine's conversions to SyncBN and back drop")
