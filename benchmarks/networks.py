"""Branches on networks of timm and torchvision: where they get them, where not and why, and that they fold.

    python benchmarks/networks.py docs/networks.md     # writes the table; ends with 1 if any network is wrong

A network is right where branches that preserve its function do so, and where random ones fold without a trace, both in
float64 with statistics and affine parameters of all normalisations disturbed; or where it is refused with a reason.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torchvision
from torch import Tensor, nn

from ghostlib.files import write_atomic
from ghostlib.models.reparam import add_branches, reparameterize
from ghostlib.models.sites import survey, tensors_of

TIMM = """
convnext_atto convnextv2_atto densenet121 dla34 edgenext_xx_small
efficientformer_l1 efficientformerv2_s0 efficientnet_b0 efficientnet_lite0 efficientvit_b0
efficientvit_m0 fastvit_t8 fbnetc_100 fbnetv3_b gernet_s ghostnet_100 ghostnetv2_100 hardcorenas_a
inception_v3 lcnet_050 levit_128s mixnet_s mnasnet_100 mobilenet_edgetpu_v2_xs mobilenetv1_100 mobilenetv2_100
mobilenetv3_large_100 mobilenetv3_small_100 mobilenetv4_conv_small mobilenetv4_hybrid_medium mobileone_s0
mobilevit_xxs mobilevitv2_050 nf_regnet_b0 poolformer_s12 pvt_v2_b0 regnetx_002 regnety_002 regnetz_005 repghostnet_050
repvgg_a0 repvit_m0_9 resnet18 resnext50_32x4d rexnet_100 semnasnet_100 skresnet18 spnasnet_100
starnet_s1 tf_efficientnet_b0 tf_mobilenetv3_small_100 tiny_vit_5m_224 tinynet_e vgg11_bn vit_tiny_patch16_224
visformer_tiny xcit_nano_12_p16_224
""".split()
TORCHVISION = """
convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3 mnasnet1_0 mobilenet_v2
mobilenet_v3_large mobilenet_v3_small regnet_x_400mf regnet_y_400mf resnet18 shufflenet_v2_x1_0 squeezenet1_0 swin_t
vgg11_bn
""".split()
TOLERANCE = 1e-9  # of the largest output, in float64


@dataclass(frozen=True)
class Row:
    """What became of one network: errors are of the largest output; None where it was refused."""

    name: str
    sites: int
    skipped: str
    preserve_error: float | None
    fold_error: float | None

    @property
    def right(self) -> bool:
        """Whether it computes what it did, or was refused."""
        return all(error is None or error <= TOLERANCE for error in (self.preserve_error, self.fold_error))


def names() -> list[str]:
    """Every network that is tried, with the library that has it; those that an installed timm lacks are left out."""
    return [*(f"timm/{name}" for name in TIMM if timm.is_model(name)), *(f"torchvision/{name}" for name in TORCHVISION)]


@torch.no_grad()
def tried(name: str) -> Row:
    """Adds branches to a network, both ways, and folds them."""
    torch.manual_seed(0)
    library, _, model = name.partition("/")
    network = (timm.create_model(model) if library == "timm" else _torchvision(model)).double().eval()
    config = getattr(network, "default_cfg", None) or {"input_size": (3, 299 if model == "inception_v3" else 224)}
    size = config["input_size"][-1]
    x = torch.randn(1, 3, size, size, dtype=torch.float64)
    _disturb(network, x)
    found, before = survey(network, example_input=x), network(x)
    skipped = "; ".join(f"{count} {reason}" for reason, count in Counter(found.skipped.values()).most_common())
    if not found.sites:
        return Row(name, 0, skipped, None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of partial coverage: the table tells it
        preserving = add_branches(copy.deepcopy(network), preserve=True, example_input=x)
        branched = add_branches(network, example_input=x)
    _disturb(branched, x)
    trained = branched(x)
    return Row(name, len(found.sites), skipped, _error(preserving(x), before),
               _error(reparameterize(branched)(x), trained))


def _torchvision(name: str) -> nn.Module:
    # Their auxiliary classifiers run while training only.
    options = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, **({"init_weights": True} if options else {}), **options)


def _disturb(network: nn.Module, x: Tensor) -> None:
    """Gives every normalisation affine parameters and statistics of its own, near to those of what reaches it."""
    def change(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.3)
        var, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        norm.running_mean.copy_(mean + 0.3 * var.sqrt() * torch.randn_like(mean))
        # A channel that hardly varies would be blown up, rounding errors and all.
        norm.running_var.copy_(torch.empty_like(var).uniform_(0.5, 2).mul_(var).clamp_(min=1))

    hooks = [norm.register_forward_pre_hook(change) for norm in network.modules()
             if isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats]
    network.eval()(x)
    for hook in hooks:
        hook.remove()


def _error(actual: object, expected: object) -> float:
    pairs = zip(tensors_of(actual), tensors_of(expected), strict=True)
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


def main(path: Path) -> None:
    """Tries every network and writes the table in Markdown."""
    from tqdm import tqdm

    rows = []
    for name in (bar := tqdm(names(), unit="network")):
        bar.set_postfix_str(name)
        rows.append(tried(name))
    lines = ["# Branches on networks of timm and torchvision", "",
             f"{sum(bool(row.sites) for row in rows)} of {len(rows)} networks get branches, the others are refused "
             "with the reason; none becomes another function. Errors are shares of the largest output, in float64: of "
             "branches that preserve a network's function, and of folding random ones. `make test-networks` makes this "
             f"table; here with timm {timm.__version__} and torchvision {torchvision.__version__}.", "",
             "| network | sites | error, preserved | error, folded | other convolutions |", "|---|---|---|---|---|"]
    for row in rows:
        errors = ("—" if error is None else f"{error:.0e}" for error in (row.preserve_error, row.fold_error))
        lines.append(f"| {row.name} | {row.sites or 'refused'} | {' | '.join(errors)} | {row.skipped or 'none'} |")
    write_atomic(path, "\n".join(lines) + "\n")
    if wrong := [row.name for row in rows if not row.right]:
        sys.exit(f"wrong: {', '.join(wrong)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
