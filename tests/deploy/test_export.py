"""Exports: every file is executed by its engine here; one that disagrees with PyTorch does not stay."""

from __future__ import annotations

import copy
import sys
import warnings
from collections import Counter
from types import ModuleType

import numpy as np
import pytest
import torch
from timm.models.ghostnet import GhostNet
from torch import nn

from ghostlib.deploy import agreement, export
from ghostlib.deploy.export import ExportError
from ghostlib.models import reparam, zoo
from tests import needs

SIZE, CLASSES = 64, 10
# A block with an identity shortcut, one of stride 2, and one that also has both attentions (DFC and SE).
STAGES = [[[3, 16, 16, 0, 1]], [[3, 48, 24, 0, 2]], [[5, 72, 40, 0.25, 2]]]
FILES = {"onnx": ["x.onnx"], "openvino": ["x.bin", "x.xml"], "executorch": ["x.pte"],
         "ncnn": ["x.ncnn.bin", "x.ncnn.param"]}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A small GhostNetV3 in the form it trains in, with the BN statistics of some images."""
    torch.manual_seed(0)
    network = reparam.add_branches(GhostNet(STAGES, CLASSES, width=0.5, drop_rate=0, version="v2")).train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(8, 3, SIZE, SIZE) + torch.randn(8, 3, 1, 1))
    return network


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def expected(network: nn.Module, image: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return copy.deepcopy(network).eval()(image).numpy()


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("engine", export.FORMATS)
def test_the_engine_computes_what_the_network_does(engine, network, image, tmp_path):
    needs.engine(engine)
    before = copy.deepcopy(network.state_dict())
    path = tmp_path / "folder" / f"x{export.SUFFIXES[engine]}"
    assert export.FORMATS[engine](network, path, SIZE) == path
    assert names(path.parent) == FILES[engine]
    answer = getattr(export, f"_run_{engine}")(path, image.numpy())
    np.testing.assert_allclose(answer, expected(network, image), atol=1e-4 * np.abs(answer).max(), rtol=0)
    # The caller's network stays as it was: in training, with its branches.
    assert network.training and all(module.training for module in network.modules())
    assert list(network.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_onnx_gets_one_convolution_a_site_and_no_normalisation(network, tmp_path):
    needs.engine("onnx")
    import onnx

    model = onnx.load(export.onnx(network, tmp_path / "x.onnx", SIZE))
    operators = Counter(node.op_type for node in model.graph.node)
    folded = reparam.reparameterize(copy.deepcopy(network))
    assert operators["Conv"] == sum(isinstance(module, nn.Conv2d) for module in folded.modules())
    assert "BatchNormalization" not in operators
    (given,), (answer,) = model.graph.input, model.graph.output
    assert [side.dim_value for side in given.type.tensor_type.shape.dim] == [1, 3, SIZE, SIZE]
    assert [side.dim_value for side in answer.type.tensor_type.shape.dim] == [1, CLASSES]


class Slices(nn.Module):
    def forward(self, x):
        x = x[:, :3, :, :]  # idle
        x = x[:, [2, 0, 1]] + x[:, :, ::2].mean()  # a permutation, which keeps the shape, and a slice that does not
        return x.flatten(1)[:, :6][:]


def test_only_what_keeps_everything_is_idle(tmp_path):
    needs.engine("onnx")
    import onnx

    model = onnx.load(export.onnx(Slices(), tmp_path / "x.onnx", SIZE))
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["Slice"] == 2 and operators["Gather"] == 1


def test_nothing_idle_parts_the_delegates_of_executorch(tmp_path):
    needs.engine("executorch")
    path = export.executorch(Slices(), tmp_path / "x.pte", SIZE)
    assert b"aten::alias_copy" not in path.read_bytes()


def test_a_folded_network_gives_the_same_file(network, tmp_path):
    needs.engine("onnx")
    trained = export.onnx(network, tmp_path / "trained.onnx", SIZE)
    folded = export.onnx(reparam.reparameterize(copy.deepcopy(network)).eval(), tmp_path / "folded.onnx", SIZE)
    assert trained.read_bytes() == folded.read_bytes()


def test_weights_are_float32(network, tmp_path):
    needs.engine("openvino")
    path = export.openvino(network, tmp_path / "x.xml", SIZE)
    assert 'element_type="f32"' in path.read_text() and 'element_type="f16"' not in path.read_text()


def test_onnx_is_written_in_silence(network, tmp_path, capfd):
    needs.engine("onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export.onnx(network, tmp_path / "x.onnx", SIZE)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("engine", ["onnx", "openvino", "ncnn"])
def test_a_file_that_disagrees_is_not_let_stand(engine, network, tmp_path, monkeypatch):
    needs.engine(engine)
    write = export._write_onnx  # of which all three are made

    def write_wrongly(model, image, path):
        model = copy.deepcopy(model)
        model.blocks[1][0].ghost1.primary_conv[0].bias.data[0] += 1
        return write(model, image, path)

    monkeypatch.setattr(export, "_write_onnx", write_wrongly)
    with pytest.raises(ExportError, match=f"{engine}'s logits differ from PyTorch's by up to .* of the largest"):
        export.FORMATS[engine](network, tmp_path / f"x{export.SUFFIXES[engine]}", SIZE)
    assert names(tmp_path) == []


@pytest.mark.parametrize("answer", [
    lambda logits: logits * np.nan, lambda logits: logits[:, :-1], lambda logits: logits.astype(np.float16)])
def test_an_answer_that_is_not_the_network_s_leaves_the_old_file(answer, network, tmp_path, monkeypatch):
    needs.engine("onnx")
    path, run = tmp_path / "x.onnx", export._run_onnx
    path.write_text("old")
    monkeypatch.setattr(export, "_run_onnx", lambda *given: answer(run(*given)))
    with pytest.raises(ExportError, match="x.onnx is not written"):
        export.onnx(network, path, SIZE)
    assert path.read_text() == "old" and names(tmp_path) == ["x.onnx"]


def test_an_image_may_be_wider_than_it_is_high(network, tmp_path):
    needs.engine("onnx")
    import onnx

    model = onnx.load(export.onnx(network, tmp_path / "x.onnx", (SIZE, 2 * SIZE)))
    assert [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, SIZE, 2 * SIZE]


def test_the_tolerance_decides(network, tmp_path, monkeypatch):
    needs.engine("onnx")
    run = export._run_onnx
    monkeypatch.setattr(export, "_run_onnx", lambda *given: 1.001 * run(*given))
    with pytest.raises(ExportError, match="differ from PyTorch's by up to 0.001 .*more than the tolerance, 0.0001"):
        export.onnx(network, tmp_path / "x.onnx", SIZE)
    export.onnx(network, tmp_path / "x.onnx", SIZE, tolerance=0.01)


def test_a_mask_is_compared_too(tmp_path):
    needs.engine("onnx")

    class Mask(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) > 0

    export.onnx(Mask(), tmp_path / "x.onnx", SIZE)


def test_what_cannot_be_copied_or_converted_is_refused_in_words(tmp_path, monkeypatch):
    needs.engine("onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 1)))
    network(torch.randn(1, 3, SIZE, SIZE))
    with pytest.raises(ExportError, match="Sequential cannot be copied .*remove_weight_norm"):
        export.onnx(network, tmp_path / "x.onnx", SIZE)
    monkeypatch.setattr(export, "_write_onnx", lambda *given: {}["an operator"])
    with pytest.raises(ExportError, match="x.onnx is not written: onnx cannot take Conv2d .KeyError: 'an operator'"):
        export.onnx(nn.Conv2d(3, 4, 1), tmp_path / "x.onnx", SIZE)
    assert names(tmp_path) == []


def test_what_an_engine_cannot_do_is_said(tmp_path):
    needs.engine("ncnn")

    class Sorts(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)).sort().values

    with pytest.raises(ExportError, match="ncnn|pnnx"):
        export.ncnn(Sorts(), tmp_path / "x.ncnn.param", SIZE)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("given", "channels"), [({}, 1), ({"channels": 4}, 4)])
def test_a_file_takes_the_channels_that_the_network_reads_or_that_are_asked_for(given, channels, tmp_path):
    needs.engine("onnx")
    import onnx

    network = Slices() if given else nn.Conv2d(1, 2, 3)
    (image,) = onnx.load(export.onnx(network, tmp_path / "x.onnx", 8, **given)).graph.input
    assert [side.dim_value for side in image.type.tensor_type.shape.dim] == [1, channels, 8, 8]


class Answers(nn.Module):
    def __init__(self, kind: type):
        super().__init__()
        self.kind, self.conv = kind, nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return {"logits": self.conv(x)} if self.kind is dict else (self.conv(x),)


@pytest.mark.parametrize("kind", [dict, tuple])
def test_an_output_that_is_no_single_tensor_is_refused_with_the_way_out(kind, tmp_path):
    needs.engine("onnx")
    with pytest.raises(ExportError, match=f"Answers answers with a {kind.__name__}, .* whose forward returns the one"):
        export.onnx(Answers(kind), tmp_path / "x.onnx", 8)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("engine", "package", "extra"), [
    ("onnx", "onnx", "export"), ("onnx", "onnxruntime", "export"), ("openvino", "openvino", "export"),
    ("executorch", "executorch", "mobile"), ("ncnn", "ncnn", "mobile"), ("ncnn", "pnnx", "mobile")])
def test_a_missing_package_is_named_with_what_installs_it(engine, package, extra, network, tmp_path, monkeypatch):
    for other in needs.ENGINES[engine]:  # as if they were there, which they need not be
        monkeypatch.setitem(sys.modules, other, ModuleType(other))
    for module in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)  # which makes its import fail
    with pytest.raises(ModuleNotFoundError, match=rf"needs {package} .*: pip install 'ghostlib\[{extra}\]'"):
        export.FORMATS[engine](network, tmp_path / f"x{export.SUFFIXES[engine]}", SIZE)


def test_another_format_s_name_is_refused(network, tmp_path):
    needs.engine("ncnn")
    with pytest.raises(ValueError, match=r"x.param: a file for ncnn is named \*.ncnn.param"):
        export.ncnn(network, tmp_path / "x.param", SIZE)


def test_a_path_that_cannot_be_written_is_an_os_error(network, tmp_path):
    needs.engine("onnx")
    (tmp_path / "file").write_text("a file, not a folder")
    with pytest.raises(OSError, match="file"):
        export.onnx(network, tmp_path / "file" / "x.onnx", SIZE)
    (tmp_path / "folder.onnx" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="folder.onnx"):
        export.onnx(network, tmp_path / "folder.onnx", SIZE)
    assert names(tmp_path) == ["file", "folder.onnx"]


class Idle(nn.Sequential):
    """A residual branch that begins at γ = 0: nothing of it shows in the answer."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(4, 2))
        nn.init.zeros_(self[1].weight)


def test_a_network_that_answers_all_images_alike_is_warned_of_until_it_is_enlivened(tmp_path):
    needs.engine("onnx")
    torch.manual_seed(0)
    network = Idle()
    with pytest.warns(UserWarning, match="Idle answers two images alike, but for 0 of the largest logit"):
        export.onnx(network, tmp_path / "x.onnx", SIZE)
    agreement.enliven(network, SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export.onnx(network, tmp_path / "x.onnx", SIZE)


class Scaled(nn.Module):
    """Begins with a branch that a small scale hides and a head of zeros, and is not to be run as it trains."""

    def __init__(self):
        super().__init__()
        self.stem, self.branch, self.norm = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.scale, self.head = nn.Parameter(torch.full((4, 1, 1), 1e-6)), nn.Linear(4, 2)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        assert not self.training
        x = self.stem(x)
        return self.head(self.norm(x + self.scale * self.branch(x)).amax((2, 3)))


@pytest.mark.parametrize(("make", "layer"), [
    (lambda: zoo.create("shufflenetv2_100", 10), lambda network: [
        module for module in network.modules() if isinstance(module, nn.Conv2d) and module.groups > 1][-2]),
    (lambda: zoo.create("deit_tiny", 10, 0.5, image_size=SIZE), lambda network: network.blocks[5].mlp.fc2),
    (Scaled, lambda network: network.branch)], ids=["shufflenetv2", "deit", "scaled"])
def test_enlivened_networks_show_a_layer_that_an_engine_loses(tmp_path, monkeypatch, make, layer):
    needs.engine("onnx")
    torch.manual_seed(0)
    network, write = make(), export._write_onnx
    agreement.enliven(network, SIZE)
    assert not any(module.training for module in network.modules())
    assert {module.momentum for module in network.modules() if isinstance(module, nn.BatchNorm2d)} <= {0.1}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".* answers two images alike")
        export.onnx(network, tmp_path / "x.onnx", SIZE)

    def without(model, image, path):
        lost = copy.deepcopy(model)
        nn.init.zeros_(layer(lost).weight)
        return write(lost, image, path)

    monkeypatch.setattr(export, "_write_onnx", without)
    with pytest.raises(ExportError, match="logits differ from PyTorch's"):
        export.onnx(network, tmp_path / "x.onnx", SIZE)


def test_a_network_is_enlivened_in_its_own_precision():
    network = Idle().to(torch.bfloat16)
    agreement.enliven(network, 8)
    assert network[1].weight.dtype == torch.bfloat16 and network[1].weight.all()


def test_modules_that_fold_in_evaluation_mode_only_are_exported(tmp_path):
    needs.engine("onnx")
    import timm

    export.onnx(timm.create_model("efficientvim_m1", num_classes=4).train(), tmp_path / "x.onnx", 64)
