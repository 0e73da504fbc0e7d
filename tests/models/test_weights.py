"""Weights: whoever wrote the file, the network answers as the one it was written from, or is left alone."""

from __future__ import annotations

import argparse
import copy
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.ghostnet import GhostNet
from timm.utils import reparameterize_model
from torch import Tensor, nn

from ghostlib.models import misfit, weights, zoo
from ghostlib.models.reparam import RepConv, add_branches, reparameterize
from ghostlib.models.sites import GHOSTNET_EXCLUDE
from ghostlib.models.weights import Report, WeightsError
from tests import needs
from tests.models.test_reparam import GHOST_STAGES, unsettle, views_of

CLASSES, WIDTH = 7, 0.5
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def theirs(version: str, seed: int = 1, stages: list = GHOST_STAGES, width: float = WIDTH) -> nn.Module:
    """timm's GhostNet of a version, whose normalisations all differ; shallow if nothing else is asked for."""
    torch.manual_seed(seed)
    return unsettle(GhostNet(stages, CLASSES, width, drop_rate=0, version=version), views_of(33))


@pytest.fixture(scope="module")
def v1() -> nn.Module:
    return theirs("v1")


@pytest.fixture(scope="module")
def v2() -> nn.Module:
    return theirs("v2")


@pytest.fixture(scope="module")
def v3() -> nn.Module:
    if not timm.is_model("ghostnetv3_100"):
        pytest.skip(needs.timms_v3.kwargs["reason"])
    return theirs("v3")


def plain(num_classes: int = CLASSES, width: float = WIDTH, version: str = "v2") -> nn.Module:
    return GhostNet(GHOST_STAGES, num_classes, width, drop_rate=0, version=version)


def expanded(network: nn.Module, **options) -> nn.Module:
    """With branches where V3 has them; the last convolution is one of the fifth block here, not of the tenth."""
    return add_branches(network, exclude=(*GHOSTNET_EXCLUDE[:2], "blocks.4.*"), **options)


def in_training_form(num_classes: int = CLASSES) -> nn.Module:
    return expanded(plain(num_classes))


def folded() -> nn.Module:
    return reparameterize(in_training_form())


FORMS = {"plain": plain, "training form": in_training_form, "folded": folded}


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


@torch.no_grad()
def outputs(network: nn.Module) -> Tensor:
    """In float64, where networks that compute the same have no rounding errors to differ by."""
    torch.manual_seed(2)
    return copy.deepcopy(network).double().eval()(views_of(33, n=2).double())


def assert_same(network: nn.Module, other: nn.Module, atol: float = 1e-9) -> None:
    expected = outputs(other)
    assert expected.std(0).mean() > 0.02
    torch.testing.assert_close(outputs(network), expected, atol=atol, rtol=0)


def assert_equal_states(network: nn.Module, state: State) -> None:
    own = network.state_dict()
    assert own.keys() == state.keys() and all(torch.equal(own[name], tensor) for name, tensor in state.items())


def written(path: Path, content) -> Path:
    torch.save(content, path)
    return path


def refused(network: nn.Module, path: Path, **options) -> str:
    """The words in which a file is refused, of which the network keeps no trace."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        weights.load(network, path, **options)
    assert_equal_states(network, before)
    assert str(path) in str(error.value)
    return str(error.value)


# -- the authors' names of V3


def in_authors_names(state: State) -> State:
    return {name.replace(".bn1.", ".bn.") if "_rpr_" in name else name: tensor for name, tensor in state.items()}


def authors_keys() -> set[str]:
    """The names in a file of the authors' V3, from their module tree and the table of rows that V1 to V3 share."""
    def norm(name: str) -> list[str]:
        return [f"{name}.{part}" for part in NORM]

    def pair(name: str) -> list[str]:
        return [f"{name}.conv.weight", *norm(f"{name}.bn")]

    def pairs_in_line(name: str, count: int) -> list[str]:
        return [key for i in range(0, 2 * count, 2) for key in (f"{name}.{i}.weight", *norm(f"{name}.{i + 1}"))]

    def ghost(name: str, attention: bool) -> list[str]:
        convs = [key for i in range(3) for part in ("primary", "cheap") for key in pair(f"{name}.{part}_rpr_conv.{i}")]
        return [*convs, *pair(f"{name}.cheap_rpr_scale"), *norm(f"{name}.cheap_rpr_skip"),
                *(pairs_in_line(f"{name}.short_conv", 3) if attention else [])]

    # In the order of the table: has SE, is strided, changes its number of channels.
    rows = {"0.0": "", "1.0": "sc", "2.0": "", "3.0": "esc", "4.0": "e", "5.0": "sc", "6.0": "", "6.1": "", "6.2": "",
            "6.3": "ec", "6.4": "e", "7.0": "esc", "8.0": "", "8.1": "e", "8.2": "", "8.3": "e"}
    keys = ["conv_stem.weight", *norm("bn1"), "blocks.9.0.conv.weight", *norm("blocks.9.0.bn1"),
            "conv_head.weight", "conv_head.bias", "classifier.weight", "classifier.bias"]
    for layer, (row, has) in enumerate(rows.items()):
        block = f"blocks.{row}"
        keys += ghost(f"{block}.ghost1", attention=layer > 1) + ghost(f"{block}.ghost2", attention=False)
        if "s" in has:
            keys += [key for i in range(3) for key in pair(f"{block}.dw_rpr_conv.{i}")] + pair(f"{block}.dw_rpr_scale")
        if "e" in has:
            keys += [f"{block}.se.conv_{part}.{kind}" for part in ("reduce", "expand") for kind in ("weight", "bias")]
        if "c" in has:
            keys += pairs_in_line(f"{block}.shortcut", 2)
    return set(keys)


@pytest.fixture(scope="module")
def whole_v3(v3) -> nn.Module:
    return theirs("v3", stages=zoo.create("ghostnetv2_100", width=0.1).cfgs, width=0.1)


def test_the_authors_names_are_as_in_their_code(whole_v3):
    assert in_authors_names(whole_v3.state_dict()).keys() == authors_keys()


def test_the_authors_names_are_those_of_the_zoo_in_another_layout():
    network = zoo.create("ghostnetv3_100", CLASSES, 0.1)
    layout, renamed = weights._in_our_names(dict.fromkeys(authors_keys(), torch.zeros(1)))
    assert layout == "the authors' V3, " and renamed.keys() == network.state_dict().keys()


# -- files that fit


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("layout", ["the authors' V3", "timm's V3"])
def test_v3_in_training_form_computes_the_same_in_our_network(v3, tmp_path, layout, prefix):
    state = in_authors_names(v3.state_dict()) if "authors" in layout else v3.state_dict()
    path = written(tmp_path / "w", {prefix + name: tensor for name, tensor in state.items()})
    network = in_training_form()
    report = weights.load(network, path)
    assert report == Report(f"{layout}, in training form", loaded=len(state))
    assert_same(network, v3)
    assert_same(reparameterize(network.double()), v3)


@torch.no_grad()
def test_a_v3_that_timm_folded_computes_the_same_in_our_folded_network(v3, tmp_path):
    deployed = reparameterize_model(v3)
    network = folded()
    report = weights.load(network, written(tmp_path / "w", deployed.state_dict()))
    assert report == Report("without branches", loaded=len(deployed.state_dict()))
    assert_same(network, deployed)
    assert_same(network, v3, atol=1e-4)  # timm folds in float32


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_v1_and_v2_compute_the_same_in_our_network(version, tmp_path, request):
    original = request.getfixturevalue(version)
    network = plain(version=version)
    report = weights.load(network, written(tmp_path / "w", {"state_dict": original.state_dict(), "epoch": 3}))
    assert report == Report("without branches", loaded=len(original.state_dict()))
    assert_same(network, original)


def test_the_whole_v3_of_the_authors_is_the_whole_v3_of_the_zoo(whole_v3, tmp_path):
    network = zoo.create("ghostnetv3_100", CLASSES, 0.1)
    assert weights.load(network, written(tmp_path / "w", in_authors_names(whole_v3.state_dict()))).complete
    assert_same(network, whole_v3)


def test_counters_of_operations_in_the_authors_files_are_no_weights(v2, tmp_path):
    counted = {f"{name}total_{what}": torch.zeros(1) for what in ("ops", "params") for name in ("", "blocks.0.0.se.")}
    network = plain()
    assert weights.load(network, written(tmp_path / "w", v2.state_dict() | counted)).complete
    assert_same(network, v2)


def test_files_of_old_may_lack_the_counter_of_batches(v2, tmp_path):
    state = {name: tensor for name, tensor in v2.state_dict().items() if not name.endswith("num_batches_tracked")}
    network = plain()
    assert weights.load(network, written(tmp_path / "w", state)) == Report("without branches", loaded=len(state))
    assert_same(network, v2)


def test_a_file_of_half_precision_fills_a_network_of_single(v2, tmp_path):
    half = copy.deepcopy(v2).half()
    network = plain()
    weights.load(network, written(tmp_path / "w", half.state_dict()))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert_same(network, half)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_training_checkpoint_gives_the_raw_or_the_averaged_weights(v3, tmp_path, legacy):
    averaged = theirs("v3", seed=5)
    path = tmp_path / "ghostnetv3-1.0.pth.tar"
    torch.save({"state_dict": in_authors_names(v3.state_dict()),
                "state_dict_ema": in_authors_names(averaged.state_dict()),
                "epoch": 7, "arch": "ghostnetv3", "metric": 77.1,
                "optimizer": torch.optim.SGD(v3.parameters(), 0.1).state_dict()},
               path, _use_new_zipfile_serialization=not legacy)
    network = in_training_form()
    assert weights.load(network, path).form == "the authors' V3, in training form"
    assert_same(network, v3)
    assert weights.load(network, path, ema=True).form == "the authors' V3, in training form, averaged"
    assert_same(network, averaged)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_arguments_beside_the_weights_are_data_where_pytorch_can_be_told_so(v2, tmp_path, legacy):
    path, network = tmp_path / "checkpoint.pth.tar", plain()
    torch.save({"state_dict": v2.state_dict(), "args": argparse.Namespace(lr=0.005, opt="lamb")}, path,
               _use_new_zipfile_serialization=not legacy)
    if hasattr(torch.serialization, "safe_globals"):  # since PyTorch 2.5
        weights.load(network, path)
        assert_same(network, v2)
    else:
        assert "needs argparse.Namespace" in refused(network, path)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth.tar"])
def test_a_file_is_known_by_its_content(v3, tmp_path, name):
    expected = Report("timm's V3, in training form", loaded=len(v3.state_dict()))
    assert weights.load(in_training_form(), written(tmp_path / name, v3.state_dict())) == expected
    save_file(v3.state_dict(), tmp_path / name)
    assert weights.load(in_training_form(), str(tmp_path / name)) == expected


# -- our own files


@pytest.mark.parametrize("make", [*FORMS.values(), lambda: add_branches(zoo.create("mobilenetv2_100", 7, 0.1))],
                         ids=[*FORMS, "another network"])
def test_what_is_saved_is_loaded(tmp_path, make):
    network, other = make(), make()
    path = tmp_path / "new folder" / "w.safetensors"
    weights.save(network, path)
    assert weights.load(other, path).complete
    assert_equal_states(other, network.state_dict())


def test_saving_is_safetensors_under_the_networks_own_names(tmp_path):
    network = plain().to(memory_format=torch.channels_last)  # not contiguous
    weights.save(network, tmp_path / "w")
    assert_equal_states(network, load_file(tmp_path / "w"))
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize("form", FORMS)
def test_a_folded_file_is_told_from_the_others(tmp_path, form):
    network = FORMS[form]()
    weights.save(network, tmp_path / "w")
    assert weights.is_folded(tmp_path / "w") is (form == "folded")
    written(tmp_path / "w", {"state_dict_ema": network.state_dict()})
    assert weights.is_folded(tmp_path / "w", ema=True) is (form == "folded")


def test_converting_is_loading_and_saving(tmp_path):
    size = dict(num_classes=CLASSES, width=0.1)
    network = zoo.create("mobilenetv2_100", **size)
    source = written(tmp_path / "source", {"state_dict": network.state_dict()})
    report = weights.convert("mobilenetv2_100", source, tmp_path / "target", **size)
    assert report == Report("without branches", len(network.state_dict()))
    assert_equal_states(network, load_file(tmp_path / "target"))


def test_converting_takes_the_averaged_weights_and_folds_them(whole_v3, tmp_path):
    size = dict(num_classes=CLASSES, width=0.1)
    source = written(tmp_path / "source", {"state_dict": {}, "state_dict_ema": whole_v3.state_dict()})
    report = weights.convert("ghostnetv3_100", source, tmp_path / "folded", ema=True, fold=True, **size)
    assert report == Report("timm's V3, in training form, averaged", len(whole_v3.state_dict()))
    network = zoo.create("ghostnetv3_100", **size)
    weights.load(network, source, ema=True)
    assert_equal_states(reparameterize(network), load_file(tmp_path / "folded"))
    # A file that is folded already goes into a folded network.
    assert weights.convert("ghostnetv3_100", tmp_path / "folded", tmp_path / "again", **size).complete
    assert_equal_states(network, load_file(tmp_path / "again"))


def test_nothing_is_written_for_a_file_that_does_not_fit(v2, tmp_path):
    source = written(tmp_path / "source", v2.state_dict())
    with pytest.raises(WeightsError):
        weights.convert("mobilenetv2_100", source, tmp_path / "target")
    assert not (tmp_path / "target").exists()


# -- another form


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(("file", "network", "remedy"), [
    ("training form", "plain", "Load it into the network in training form .* and reparameterize that"),
    ("training form", "folded", "Load it into the network in training form .* and reparameterize that"),
    ("plain", "training form", "If the file is plain, load it into the plain network .* and add_branches to that"),
    ("folded", "training form", "if folded, reparameterize first"),
    ("folded", "plain", r"The file is folded, the network plain: reparameterize\(add_branches\(network\)\) first"),
    ("plain", "folded", "The network is folded, the file plain. Load it into the plain network .* and fold that"),
])
def test_a_file_of_another_form_is_refused_with_the_way_to_its_own(tmp_path, file, network, remedy, strict):
    weights.save(FORMS[file](), tmp_path / "w")
    words = refused(FORMS[network](), tmp_path / "w", strict=strict)
    assert re.search(remedy, words)


def test_timms_own_branches_are_a_training_form_too(tmp_path):
    path = written(tmp_path / "w", {"stages.0.0.conv_kxk.0.conv.weight": torch.zeros(4, 1, 3, 3)})  # of MobileOne
    block = nn.ModuleDict({"reparam_conv": nn.Conv2d(4, 4, 3, groups=4)})
    network = nn.ModuleDict({"stages": nn.Sequential(nn.Sequential(block))})
    assert "Load it into the network in training form" in refused(network, path)


@pytest.mark.parametrize("name", ["mobilenetv2_100", "mobilenetv3_large_100", "mobileone_s1"])
@pytest.mark.parametrize("form", FORMS)
def test_another_networks_file_is_called_so_and_not_another_form(name, form, tmp_path):
    words = refused(FORMS[form](), written(tmp_path / "w", zoo.create(name, CLASSES).state_dict()))
    assert "It is another network's file" in words and "add_branches" not in words


def test_every_form_and_width_of_a_network_is_its_own_file():
    states = [make().state_dict() for make in (*FORMS.values(), lambda: plain(width=1.0), lambda: plain(version="v1"))]
    assert not [one for one in states for other in states if misfit.of_another_network(one, other)]


@torch.no_grad()
def test_the_remedies_lead_from_v2_weights_to_both_forms_of_v3(v2, tmp_path):
    network = plain()
    weights.load(network, written(tmp_path / "v2", v2.state_dict()))
    bare = reparameterize(expanded(copy.deepcopy(network), branches=1, scale=False, skip=False))
    weights.save(bare, tmp_path / "folded")
    deployed = folded()
    assert weights.load(deployed, tmp_path / "folded").complete
    assert_same(deployed, v2, atol=1e-4)
    site = expanded(network).blocks[1][0].conv_dw
    assert isinstance(site, RepConv) and torch.equal(site.branches[0].conv.weight, v2.blocks[1][0].conv_dw.weight)


# -- files that do not fit


def test_another_number_of_classes_is_named_with_both_ways_out(v3, tmp_path):
    path = written(tmp_path / "w", v3.state_dict())
    network = in_training_form(num_classes=10)
    words = refused(network, path)
    assert f"classifier has {CLASSES} classes, the network's 10" in words
    assert f"num_classes={CLASSES}" in words and "strict=False" in words
    own = copy.deepcopy(network.classifier.state_dict())
    report = weights.load(network, path, strict=False)
    assert report.loaded == len(v3.state_dict()) - 2 and not report.missing and not report.unexpected
    assert report.mismatched == (("classifier.weight", (CLASSES, 1280), (10, 1280)),
                                 ("classifier.bias", (CLASSES,), (10,)))
    assert all(torch.equal(tensor, own[name]) for name, tensor in network.classifier.state_dict().items())
    network.classifier = v3.classifier
    assert_same(network, v3)


def test_another_width_is_not_taken_for_another_classifier(v2, tmp_path):
    words = refused(plain(width=1.0), written(tmp_path / "w", v2.state_dict()))
    assert "of another shape (conv_stem.weight: (8, 3, 3, 3) for (16, 3, 3, 3), " in words
    assert "with the same width" in words and "classes" not in words


def test_fewer_branches_are_missing(tmp_path):
    weights.save(expanded(plain(), branches=1), tmp_path / "w")
    words = refused(in_training_form(), tmp_path / "w")
    assert "missing (blocks.0.0.ghost1.primary_conv.0.branches.1.conv.weight, " in words
    assert "number of branches" in words


def test_v1_lacks_the_attention_of_v2(v1, tmp_path):
    assert "missing (blocks.2.0.ghost1.short_conv.0.weight, " in refused(
        plain(), written(tmp_path / "w", v1.state_dict()))


@pytest.mark.parametrize("strict", [True, False])
def test_foreign_keys_are_listed_and_nothing_fits(tmp_path, strict):
    state = {f"encoder.{i}": torch.zeros(2) for i in range(5)}
    words = refused(in_training_form(), written(tmp_path / "w", state), strict=strict)
    assert "0 tensors fit" in words and "5 unexpected (encoder.0, encoder.1, encoder.2, ...)" in words


def test_what_fits_is_loaded_if_asked_for_and_the_rest_is_told(v2, tmp_path):
    state = v2.state_dict()
    del state["conv_stem.weight"]
    path = written(tmp_path / "w", state | {"extra": torch.zeros(1)})
    refused(plain(), path)
    network = plain()
    report = weights.load(network, path, strict=False)
    assert report == Report("without branches", len(state), missing=("conv_stem.weight",), unexpected=("extra",))
    assert not report.complete
    assert str(report) == (f"without branches: {len(state)} tensors fit; 1 missing (conv_stem.weight); "
                           "1 unexpected (extra)")
    network.conv_stem = v2.conv_stem
    assert_same(network, v2)


# -- files that cannot be read


def test_averaged_weights_are_never_replaced_by_raw_ones(v2, tmp_path):
    for content in (v2.state_dict(), {"state_dict": v2.state_dict()}):
        words = refused(plain(), written(tmp_path / "w", content), ema=True)
        assert "holds no 'state_dict_ema'" in words and "without ema" in words


@pytest.mark.parametrize(("content", "held"), [
    ({"epoch": 3, "model": {"a": torch.zeros(1)}}, "'epoch', 'model'"), ({}, "a dict"), ([torch.zeros(1)], "a list"),
    (torch.zeros(1), "a Tensor"), ({"state_dict": [1]}, "'state_dict'"), ({"state_dict": {}}, "'state_dict'")])
def test_a_file_without_a_state_dict_tells_what_it_holds(tmp_path, content, held):
    words = refused(small(), written(tmp_path / "w", content))
    assert "holds no state dict" in words and held in words


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_a_torn_file_is_refused(tmp_path, kind, share):
    network, path = small(), tmp_path / "w"
    if kind == "safetensors":
        weights.save(network, path)
    else:
        torch.save(network.state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[:int(share * len(whole))])
    assert "it is torn" in refused(network, path)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>", b"version https://git-lfs", b"12345678{}", bytes(100)])
def test_something_else_is_refused(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    assert "neither a safetensors nor a PyTorch file" in refused(small(), tmp_path / "w")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        weights.load(small(), tmp_path / "nowhere.pth")


class Malicious:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_code_in_a_file_does_not_run(v2, tmp_path, legacy):
    trace = tmp_path / "trace"
    torch.save({"state_dict": v2.state_dict(), "args": Malicious(trace)}, tmp_path / "w",
               _use_new_zipfile_serialization=not legacy)
    words = refused(plain(), tmp_path / "w")
    assert "posix.mkdir" in words and "torch.load(path, weights_only=False)" in words
    assert not trace.exists()
    pickle.loads(pickle.dumps(Malicious(trace)))
    assert trace.exists()  # so it would have


def test_a_whole_pickled_network_is_refused_with_the_way_to_its_weights(v2, tmp_path):
    words = refused(plain(), written(tmp_path / "w", v2))
    assert "it needs timm.models.ghostnet.GhostNet" in words
    assert "torch.save(content.state_dict(), 'weights.pth')" in words


def test_the_remedy_for_a_file_with_code_works(v2, tmp_path):
    path = written(tmp_path / "w", {"state_dict": v2.state_dict(), "when": Path("somewhere")})
    network = plain()
    refused(network, path)
    content = torch.load(path, weights_only=False)
    torch.save({key: content[key] for key in content if key.startswith("state_dict")}, path)
    weights.load(network, path)
    assert_same(network, v2)


@pytest.mark.parametrize("form", ["plain", "branches", "folded", "folded from branches"])
def test_a_network_opens_in_the_form_of_its_file(form, tmp_path):
    torch.manual_seed(0)
    size, views = {"num_classes": 3, "width": 0.25}, torch.randn(2, 3, 33, 33)
    trained = zoo.create("mobilenetv2_100", **size)
    if "branches" in form:
        add_branches(trained, branches=2, scale=True, skip=False)
    elif form == "folded":
        add_branches(trained, branches=1, scale=False, skip=False)
    trained(views)  # moves the statistics of the batch normalisations
    if "folded" in form:
        trained = reparameterize(trained)
    weights.save(trained, tmp_path / "file")
    opened, report = weights.open_network("mobilenetv2_100", tmp_path / "file", **size)
    assert report.complete and opened.state_dict().keys() == trained.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(opened.eval()(views), trained.eval()(views))


@pytest.mark.parametrize("branches", [0, 2])
def test_a_layer_of_one_s_own_may_be_called_pointwise(tmp_path, branches):
    """As depth-wise separable blocks often have it."""
    def make():
        pointwise = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 1, bias=False), norm=nn.BatchNorm2d(4)))
        network = nn.Sequential(OrderedDict(pointwise=pointwise))
        return add_branches(network, branches, example_input=torch.randn(2, 3, 8, 8)) if branches else network

    weights.save(network := make(), tmp_path / "own.safetensors")
    assert weights.load(other := make(), tmp_path / "own.safetensors").complete
    image = torch.randn(1, 3, 8, 8)
    assert torch.equal(other.eval()(image), network.eval()(image))


@pytest.mark.parametrize("name", ["ghostnetv2_050", "resnet10", "deit_tiny"])
def test_plain_weights_are_not_folded_in_silence(tmp_path, name):
    weights.save(zoo.create(name, 3, 0.25), tmp_path / "plain.safetensors")
    with pytest.raises(WeightsError, match="plain.safetensors has no branches, so there is nothing to fold"):
        weights.convert(name, tmp_path / "plain.safetensors", tmp_path / "folded.safetensors", fold=True,
                        num_classes=3, width=0.25)
    assert not (tmp_path / "folded.safetensors").exists()


def test_files_of_the_first_version_which_called_the_branch_pointwise_are_read(tmp_path):
    network, other = in_training_form(), in_training_form()
    state = {name.replace(".scale.", ".pointwise."): tensor for name, tensor in network.state_dict().items()}
    assert state.keys() != network.state_dict().keys()
    assert weights.load(other, written(tmp_path / "w", state)).complete
    given = network.state_dict()
    assert all(torch.equal(tensor, given[name]) for name, tensor in other.state_dict().items())
