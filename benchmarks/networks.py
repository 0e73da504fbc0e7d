"""Branches on networks of timm and torchvision: where they get them, where not and why, and that they fold.

    python benchmarks/networks.py docs/networks.md     # writes the table, unless a network is wrong

A network is right where it has as many sites as the table there is says (0: it is refused with the reason), where
branches that preserve its function do so, training and evaluating, and where random ones fold without a trace, all in
float64 with statistics and affine parameters of all normalisations disturbed. Where a network has modules that fold
themselves, it is tried once more with branches inside these. A number of sites that is to be another one is taken out
of the table first.
"""

from __future__ import annotations

import copy
import re
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
from ghostlib.models.flow import tensors_of
from ghostlib.models.reparam import add_branches, reparameterize
from ghostlib.models.sites import folding_themselves, survey

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
SIDE = 128  # px, of the images for networks that take any: PyTorch's float64 convolutions are slow


@dataclass(frozen=True)
class Row:
    """What became of one network: errors are of the largest output; None where it was refused."""

    name: str
    sites: int
    skipped: str
    preserve_error: float | None
    fold_error: float | None

    def is_right(self, expected: dict[str, int]) -> bool:
        """Whether it has the sites that it is to have, and computes with branches what it did."""
        return self.sites == expected.get(self.name, self.sites) and all(
            error is None or error <= TOLERANCE for error in (self.preserve_error, self.fold_error))


def names() -> list[str]:
    """Every network that is tried, with the library that has it; those that an installed timm lacks are left out."""
    return [*(f"timm/{name}" for name in TIMM if timm.is_model(name)), *(f"torchvision/{name}" for name in TORCHVISION)]


def expected_sites(table: str) -> dict[str, int]:
    """How many sites each network of a table in Markdown has; 0 if it is refused."""
    rows = re.findall(r"^\| (\w+/[^|]+?) \| (\d+|refused) \|", table, re.MULTILINE)
    return {name: 0 if sites == "refused" else int(sites) for name, sites in rows}


def tried(name: str) -> list[Row]:
    """Adds branches to a network, both ways, and folds them; also inside its modules that fold themselves, if any."""
    network, x = _network(name)
    rows = [_tried(name, network, x, inside=False)]
    return [*rows, _tried(f"{name}, inside", network, x, True)] if any(folding_themselves(network)) else rows


@torch.no_grad()
def _tried(name: str, network: nn.Module, x: Tensor, inside: bool) -> Row:
    found, before = survey(network, example_input=x[:1], inside=inside), network(x)
    skipped = "; ".join(f"{count} {reason}" for reason, count in Counter(found.skipped.values()).most_common())
    if not found.sites:
        return Row(name, 0, skipped, None, None)
    options = {"example_input": x[:1], "inside": inside}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of partial coverage: the table tells it
        preserving = add_branches(copy.deepcopy(network), preserve=True, **options)
        branched = add_branches(copy.deepcopy(network), **options)
    preserved = _error(preserving(x), before)
    answers = []
    for trained in (preserving.train(), copy.deepcopy(network).train()):
        torch.manual_seed(0)  # of what is dropped
        answers.append(trained(x))
    _disturb(branched, x)
    before_folding = branched(x)
    return Row(name, len(found.sites), skipped, max(preserved, _error(*answers)),
               _error(reparameterize(branched)(x), before_folding))


def _network(name: str) -> tuple[nn.Module, Tensor]:
    """A network and two images for it, in float64."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)  # of the convolutions, too, that modules fold themselves into
    library, _, model = name.partition("/")
    network = (timm.create_model(model) if library == "timm" else _torchvision(model)).double().eval()
    config = getattr(network, "default_cfg", None) or {}
    size = config["input_size"][-1] if config.get("fixed_input_size") else SIDE
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        _disturb(network, x)
    return network, x


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

    expected = expected_sites(path.read_text(encoding="utf-8")) if path.exists() else {}
    rows = []
    for name in (bar := tqdm(names(), unit="network")):
        bar.set_postfix_str(name)
        rows += tried(name)
    outside = [row for row in rows if not row.name.endswith(", inside")]
    refused = {f"{row.name}, inside" for row in outside if not row.sites}
    rescued = sum(row.name in refused and bool(row.sites) for row in rows)
    lines = ["# Branches on networks of timm and torchvision", "",
             f"{sum(bool(row.sites) for row in outside)} of {len(outside)} networks get branches, the others are "
             f"refused with the reason ({rescued} of them get some with `inside=True`); none becomes another function. "
             "Errors are relative to the largest output, in float64. *Preserved*: branches are added with "
             "`preserve=True`, in training and in evaluation. *Folded*: branches with random weights are folded. "
             "Networks of modules that fold themselves come a second time, with branches inside these "
             f"(`inside=True`). `make test-networks` makes this table; here with timm {timm.__version__} and "
             f"torchvision {torchvision.__version__}.", "",
             "| network | sites | error, preserved | error, folded | other convolutions |", "|---|---|---|---|---|"]
    for row in rows:
        errors = ("—" if error is None else f"{error:.0e}" for error in (row.preserve_error, row.fold_error))
        lines.append(f"| {row.name} | {row.sites or 'refused'} | {' | '.join(errors)} | {row.skipped or 'none'} |")
    if wrong := [row for row in rows if not row.is_right(expected)]:
        told = (f"{row.name}: {row.sites} sites, {expected.get(row.name, row.sites)} expected, errors "
                f"{row.preserve_error} and {row.fold_error}" for row in wrong)
        sys.exit("\n".join(["The table is not written; wrong are", *told]))
    write_atomic(path, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
