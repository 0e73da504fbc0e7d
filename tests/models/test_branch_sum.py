"""The exact forms of a site's sum against the branches one by one: outputs, gradients and running statistics."""

from __future__ import annotations

import copy
import pickle
from collections import defaultdict

import pytest
import torch
import torch.distributed
import torch.fx
import torch.multiprocessing
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from ghostlib.models import zoo
from ghostlib.models.branch_sum import choice
from ghostlib.models.branch_sum.lags import LagTaps
from ghostlib.models.branch_sum.small_maps import SmallMapTaps
from ghostlib.models.branch_sum.taps import PointwiseTaps
from ghostlib.models.rep_conv import RepConv
from ghostlib.models.reparam import add_branches


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def depthwise(channels: int, kernel: int = 3, stride: int = 1, **options) -> nn.Conv2d:
    options = {"padding": options.get("dilation", 1) * (kernel // 2), **options}
    return nn.Conv2d(channels, channels, kernel, stride, groups=channels, bias=False, **options)


def site_of(conv: nn.Conv2d, branches: int = 3, dtype: torch.dtype = torch.float64, **norm) -> RepConv:
    """In training mode, every normalisation with γ and β of its own."""
    site = RepConv(copy.deepcopy(conv), nn.BatchNorm2d(conv.out_channels, **norm), branches).to(dtype)
    for one in site.norms:
        if one.affine:
            nn.init.uniform_(one.weight, 0.5, 1.5)
            nn.init.normal_(one.bias)
    return site


def outcome(site: nn.Module, x: Tensor, gradient: Tensor, form: str) -> dict[str, Tensor]:
    """Everything that one training step gives: the output, all gradients, all buffers."""
    site = copy.deepcopy(site)
    for module in site.modules():
        if isinstance(module, RepConv):
            module.form = form
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = site(x)
    y.backward(gradient.to(y.dtype))
    gradients = {name: p.grad for name, p in site.named_parameters() if p.grad is not None}
    return {"output": y.detach(), "by_x": x.grad, **gradients, **dict(site.named_buffers())}


def assert_exact(site: nn.Module, x: Tensor, tolerance: float = 1e-10) -> None:
    with torch.no_grad():
        gradient = torch.randn_like(copy.deepcopy(site)(x))
    expected, actual = outcome(site, x, gradient, "branches"), outcome(site, x, gradient, "exact")
    assert expected.keys() == actual.keys()
    # Some gradients are nothing but rounding (of what the next normalisation takes away), so they are held to the
    # largest of their kind.
    largest: dict[str, float] = defaultdict(float)
    for name, value in expected.items():
        largest[kind_of(name)] = max(largest[kind_of(name)], float(value.abs().max()))
    for name, value in expected.items():
        error = float((actual[name].double() - value.double()).abs().max())
        assert error <= tolerance * largest[kind_of(name)], f"{name} is off by {error:.2g}"
        assert actual[name].shape == value.shape and actual[name].dtype == value.dtype


def kind_of(name: str) -> str:
    """conv.weight; weight, bias, running_mean … of a normalisation, whatever it is called."""
    *_, module, kind = ["", *name.split(".")]
    return f"conv.{kind}" if module == "conv" else kind


def uses_exact_form(site: RepConv, x: Tensor) -> bool:
    site = copy.deepcopy(site)
    site.form = "exact"
    site.sum_branches = None  # a call of it would raise
    try:
        site(x)
    except TypeError:
        return False
    return True


POINTWISE = [(8, 8), (6, 20), (40, 4)]
SIZES = [(2, 7, 7), (3, 5, 9), (2, 1, 6), (4, 1, 1), (1, 12, 11), (5, 2, 2)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("size", SIZES, ids=str)
class TestShapes:
    @pytest.mark.parametrize(("inputs", "outputs"), POINTWISE)
    @pytest.mark.parametrize("branches", [2, 5])
    def test_pointwise(self, inputs, outputs, branches, size, layout):
        site = site_of(nn.Conv2d(inputs, outputs, 1, bias=False), branches)
        x = torch.randn(size[0], inputs, *size[1:], dtype=torch.float64).contiguous(memory_format=layout)
        assert uses_exact_form(site, x)
        assert_exact(site, x)

    @pytest.mark.parametrize("branches", [1, 3])
    def test_depthwise_by_lags(self, branches, size, layout, monkeypatch):
        monkeypatch.setattr(choice, "depthwise_taps", lambda conv, x, form: LagTaps(conv))
        site = site_of(depthwise(5), branches)
        x = torch.randn(size[0], 5, *size[1:], dtype=torch.float64).contiguous(memory_format=layout)
        assert uses_exact_form(site, x)
        assert_exact(site, x)

    @pytest.mark.parametrize("conv", [
        depthwise(5), depthwise(5, stride=2), depthwise(5, kernel=5), depthwise(5, kernel=5, stride=2),
        depthwise(5, dilation=2)], ids=["3", "3 stride 2", "5", "5 stride 2", "3 dilated"])
    def test_depthwise_on_small_maps(self, conv, size, layout, monkeypatch):
        monkeypatch.setattr(choice, "depthwise_taps", lambda conv, x, form: SmallMapTaps.of(conv, *x.shape[2:]))
        site = site_of(conv)
        x = torch.randn(size[0], 5, *size[1:], dtype=torch.float64).contiguous(memory_format=layout)
        if size[0] * -(-size[1] // conv.stride[0]) * -(-size[2] // conv.stride[1]) > 1:
            assert uses_exact_form(site, x)
            assert_exact(site, x)


@pytest.mark.parametrize("conv", [nn.Conv2d(6, 9, 1, bias=False), nn.Conv2d(24, 3, 1, bias=False), depthwise(6)],
                         ids=["covariance", "columns", "depthwise"])
class TestSettings:
    def x(self, conv: nn.Conv2d, height: int = 10, width: int = 12) -> Tensor:
        return torch.randn(3, conv.in_channels, height, width, dtype=torch.float64)

    def test_eps_and_momentum(self, conv):
        assert_exact(site_of(conv, eps=0.1, momentum=0.3), self.x(conv))

    def test_without_affine_parameters(self, conv):
        assert_exact(site_of(conv, affine=False), self.x(conv))

    def test_the_average_of_all_batches(self, conv):
        site = site_of(conv, momentum=None)
        site(self.x(conv))
        site(self.x(conv))
        assert_exact(site, self.x(conv))

    def test_without_running_statistics(self, conv):
        assert_exact(site_of(conv, track_running_stats=False), self.x(conv))

    @pytest.mark.parametrize("frozen", ["conv.weight", "norm.weight", "norm", ""])
    def test_frozen_parameters_get_no_gradient(self, conv, frozen):
        site = site_of(conv)
        for name, parameter in site.named_parameters():
            parameter.requires_grad_(frozen not in name)
        assert_exact(site, self.x(conv))

    def test_no_gradient_is_asked_of_the_input(self, conv):
        site, x = site_of(conv), self.x(conv)
        site.form = "exact"
        site(x).sum().backward()
        assert all(parameter.grad is not None for parameter in site.parameters())

    @pytest.mark.parametrize("distance", [5.0, 1e4], ids=["somewhat", "very"])
    def test_a_mean_far_above_the_spread(self, conv, distance):
        assert_exact(site_of(conv), self.x(conv) + distance, 1e-5)

    @pytest.mark.parametrize(("distance", "largest"), [(3, 1e-4), (7, 5e-4)])
    def test_a_mean_above_the_spread_costs_digits_in_float32(self, conv, distance, largest):
        site, x = site_of(conv), self.x(conv) + distance
        gradient = torch.randn(3, conv.out_channels, 10, 12, dtype=torch.float64)
        assert uses_exact_form(copy.deepcopy(site).float(), x.float())
        truth = outcome(site, x, gradient, "branches")["output"]
        actual = outcome(copy.deepcopy(site).float(), x.float(), gradient, "exact")["output"]
        assert float((actual - truth).abs().max()) < largest

    def test_a_mean_too_far_above_the_spread_goes_branch_by_branch(self, conv):
        columns = conv.in_channels == 24  # these are centred, whatever the mean
        assert uses_exact_form(site_of(conv, dtype=torch.float32), self.x(conv).float() + 1000) == columns

    def test_a_constant_input_goes_branch_by_branch_or_does_no_harm(self, conv):
        site, x = site_of(conv, dtype=torch.float32), self.x(conv).float()
        site.form = "exact"
        for constant in (0.0, 3.0):
            x.fill_(constant)
            # A rounding of 3 by 3e-7, divided by √eps and added up over branches, is 1e-2 in either form.
            torch.testing.assert_close(site(x), site.sum_branches(x), rtol=0, atol=3e-2)

    def test_networks_in_half_precision_go_branch_by_branch(self, conv):
        site = site_of(conv).bfloat16()
        assert site(self.x(conv).bfloat16()).dtype == torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16):
            assert site_of(conv)(self.x(conv)).dtype == torch.float64  # autocast leaves doubles alone

    def test_autocast_sums_gradients_in_float32(self, conv):
        site = site_of(conv, dtype=torch.float32)
        site.form = "exact"
        with torch.autocast("cpu", torch.bfloat16):
            y = site(self.x(conv, 90, 90).float())
        y.backward(torch.full_like(y, 10.0))
        beta = site.norms[0].bias.grad
        torch.testing.assert_close(beta, torch.full_like(beta, 10.0 * 3 * 90 * 90))

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_the_output_has_the_layout_of_the_input(self, conv, layout):
        site = site_of(conv)
        site.form = "exact"
        assert site(self.x(conv).contiguous(memory_format=layout)).is_contiguous(memory_format=layout)

    def test_normalisations_that_differ_go_branch_by_branch(self, conv):
        site = site_of(conv)
        site.norms[1].eps, site.norms[1].momentum = 1.0, 0.9
        assert not uses_exact_form(site, self.x(conv))

    def test_a_transform_of_functions_sees_the_branches(self, conv):
        site, x = site_of(conv, track_running_stats=False), self.x(conv)
        site.form = "exact"
        actual = torch.func.grad(lambda x: site(x).square().sum())(x)
        inputs = x.clone().requires_grad_()
        site.sum_branches(inputs).square().sum().backward()
        torch.testing.assert_close(actual, inputs.grad)

    def test_an_unknown_form_is_an_error(self, conv):
        site = site_of(conv)
        site.form = "exakt"
        with pytest.raises(ValueError, match="known: auto, branches, exact"):
            site(self.x(conv))

    def test_float32(self, conv):
        assert_exact(site_of(conv, dtype=torch.float32), self.x(conv).float(), 1e-4)

    def test_autocast_takes_moments_in_float32(self, conv):
        site, x = site_of(conv, dtype=torch.float32), self.x(conv).float()
        with torch.no_grad():
            truth = copy.deepcopy(site)
            truth(x)
        for backward_inside in (False, True):
            one = copy.deepcopy(site)
            one.form = "exact"
            inputs = x.clone().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16):
                y = one(inputs)
                assert y.dtype == torch.bfloat16
                if backward_inside:
                    y.float().sum().backward()
            if not backward_inside:
                y.float().sum().backward()
            assert inputs.grad.dtype == torch.float32
            for norm, true in zip(one.norms, truth.norms, strict=True):
                # The input was rounded to bfloat16, which adds 2^-9 of itself as noise; no sum of squares was.
                torch.testing.assert_close(norm.running_var, true.running_var, rtol=2e-3, atol=1e-4)

    def test_copies_and_pickles_go_on_alike(self, conv):
        site, x = site_of(conv), self.x(conv)
        site.form = "exact"
        site(x)
        other = pickle.loads(pickle.dumps(copy.deepcopy(site)))
        assert other.form == "exact"
        torch.testing.assert_close(other(x), site(x), rtol=0, atol=0)

    def test_a_compiled_site(self, conv):
        site, x = site_of(conv), self.x(conv)
        expected = outcome(site, x, torch.ones(()).double().expand(3, conv.out_channels, 10, 12), "exact")
        site.form = "exact"
        inputs = x.clone().requires_grad_()
        y = torch.compile(site, backend="eager")(inputs)
        y.sum().backward()
        torch.testing.assert_close(y, expected["output"])
        torch.testing.assert_close(inputs.grad, expected["by_x"])
        torch.testing.assert_close(site.norms[-1].running_var, expected[next(
            name for name in reversed(expected) if name.endswith("running_var"))])

    def test_a_hook_on_a_branch_runs(self, conv):
        site, seen = site_of(conv), []
        site.form = "exact"
        site.branches[1].conv.register_forward_hook(lambda *_: seen.append(1))
        site(self.x(conv))
        assert seen

    def test_evaluation_uses_the_running_statistics(self, conv):
        site, x = site_of(conv).eval(), self.x(conv)
        assert_exact(site, x)

    def test_half_frozen_statistics(self, conv):
        site = site_of(conv)
        site.norms[0].eval()
        assert_exact(site, self.x(conv))

    def test_keeps_the_input_alone(self, conv):
        """Of the size of a batch nothing is kept but the input and, for columns, all branches' outputs."""
        site, x = site_of(conv), self.x(conv).requires_grad_()
        kept = {}

        def pack(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
            return tensor

        site.form = "exact"
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            site(x)
        columns = 3 * 3 * 120 * 3 if conv.in_channels == 24 else 0
        parameters = sum(parameter.numel() for parameter in site.parameters())
        small = 6 * 81 + 12 * 30  # moments, statistics
        assert sum(kept.values()) <= x.numel() + columns + parameters + small


@pytest.mark.parametrize(("size", "padding"), [(7, 0), (40, 1)], ids=["dense products", "lags"])
def test_a_kernel_that_cancels_on_a_smooth_image_goes_branch_by_branch(size, padding):
    ramp = torch.linspace(0, size / 20, size, dtype=torch.float64)
    x = (ramp[:, None] + torch.randn(32, 6, 1, 1).double() * ramp).sin()
    site = site_of(depthwise(6, padding=padding), dtype=torch.float32)
    assert uses_exact_form(site, torch.randn_like(x).float())
    laplacian = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
    with torch.no_grad():
        site.branches[1].conv.weight.copy_(laplacian.expand(6, 1, 3, 3))
    assert not uses_exact_form(site, x.float())
    assert uses_exact_form(copy.deepcopy(site).double(), x)
    site.form = "exact"
    torch.testing.assert_close(site(x.float()), site.double().sum_branches(x).float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("conv", [
    nn.Conv2d(8, 12, 1, groups=4, bias=False), nn.Conv2d(8, 8, 1, bias=True), nn.Conv2d(8, 16, 1, 2, bias=False),
    nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False), depthwise(4, kernel=7), depthwise(4, stride=2),
    nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False, padding_mode="reflect")],
    ids=["grouped", "biased", "strided", "multiplied", "7×7", "stride 2", "reflected"])
def test_other_convolutions_go_branch_by_branch(conv):
    site, x = site_of(conv), torch.randn(2, conv.in_channels, 40, 40, dtype=torch.float64)
    assert not uses_exact_form(site, x)
    assert_exact(site, x)


def test_a_traced_graph_shows_the_branches():
    site = site_of(depthwise(4))
    site.form = "exact"
    called = [node.target for node in torch.fx.symbolic_trace(site).graph.nodes if node.op == "call_module"]
    assert "branches.2.conv" in called and "skip" in called
    traced = torch.jit.trace(site, torch.randn(2, 4, 5, 5, dtype=torch.float64), check_trace=False)
    assert sum(node.kind() == "aten::batch_norm" for node in traced.inlined_graph.nodes()) == 5


@pytest.mark.parametrize("conv", [nn.Conv2d(6, 9, 1, bias=False), depthwise(6)], ids=["covariance", "depthwise"])
def test_fake_tensors_leave_nothing_behind(conv):
    site = site_of(conv, dtype=torch.float32)
    site.form = "exact"
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert site(torch.randn(2, 6, 9, 9)).shape == (2, conv.out_channels, 9, 9)
    assert_exact(site_of(conv), torch.randn(2, 6, 9, 9, dtype=torch.float64))


def test_one_value_a_channel_is_refused_as_by_batch_norm():
    site = site_of(nn.Conv2d(4, 4, 1, bias=False))
    site.form = "exact"
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        site(torch.randn(1, 4, 1, 1, dtype=torch.float64))


def test_state_dicts_are_those_of_the_branches():
    site = site_of(depthwise(4))
    names = set(site.state_dict())
    site.form = "exact"
    site(torch.randn(2, 4, 5, 5, dtype=torch.float64))
    assert set(site.state_dict()) == names


@pytest.mark.parametrize("name", ["ghostnetv3_050", "ghostnetv3_100"])
def test_a_whole_ghostnet(name):
    """Outputs, all gradients and all running statistics, at every site in turn from the same inputs."""
    network = zoo.create(name, num_classes=5, width=0.5).double().train()
    x = torch.randn(4, 3, 48, 64, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    assert_exact(network, x, 1e-7)


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x0_5", "efficientnet_b0"])
def test_networks_of_torchvision(name):
    import torchvision

    network = add_branches(torchvision.models.get_model(name, num_classes=4), example_input=torch.zeros(1, 3, 64, 64))
    for module in network.modules():
        if isinstance(module, (nn.Dropout, torchvision.ops.StochasticDepth)):
            module.p = 0.0
    assert_exact(network.double().train(), torch.randn(4, 3, 40, 40, dtype=torch.float64), 1e-6)


def test_two_processes_with_synchronised_statistics(tmp_path):
    """Two parts of a batch, of unequal size, give what one process makes of the whole."""
    jobs, expected = [], []
    for conv in (nn.Conv2d(6, 9, 1, bias=False), nn.Conv2d(24, 3, 1, bias=False), depthwise(6)):
        site = site_of(conv)
        x, gradient = torch.randn(5, conv.in_channels, 4, 5).double(), torch.randn(5, conv.out_channels, 4, 5).double()
        expected.append(outcome(site, x, gradient, "branches"))
        jobs.append((nn.SyncBatchNorm.convert_sync_batchnorm(site), x, gradient))
    torch.save(jobs, tmp_path / "jobs.pt")
    torch.multiprocessing.spawn(_part, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for whole, one, other in zip(expected, first, second, strict=True):
        for name, value in whole.items():
            if name in ("output", "by_x"):
                actual = torch.cat([one[name], other[name]])
            elif "running" in name or "tracked" in name:
                actual = one[name]
                torch.testing.assert_close(other[name], actual)
            else:
                actual = one[name] + other[name]
            torch.testing.assert_close(actual, value, msg=lambda text, name=name: f"{name}: {text}")


def _part(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    part = slice(0, 2) if rank == 0 else slice(2, 5)
    jobs = torch.load(f"{folder}/jobs.pt", weights_only=False)
    torch.save([outcome(site, x[part], gradient[part], "exact") for site, x, gradient in jobs], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_pointwise_moments_are_those_of_the_pixels():
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    mean, covariance, count = PointwiseTaps(nn.Conv2d(4, 2, 1)).moments(x.permute(0, 2, 3, 1).reshape(-1, 4))
    pixels = x.transpose(0, 1).flatten(1)
    assert count == 90
    torch.testing.assert_close(mean[0], pixels.mean(1))
    torch.testing.assert_close(covariance[0], torch.cov(pixels, correction=0))


@pytest.mark.parametrize(("conv", "size"), [(depthwise(64), 9), (nn.Conv2d(64, 64, 1, bias=False), 9),
                                            (nn.Conv2d(64, 8, 1, bias=False), 9)])
def test_gradients_that_are_clipped_in_place_are_clipped_once(conv, size):
    site, x = site_of(conv), torch.randn(32, 64, size, size, dtype=torch.float64)
    clipped = []
    for form in ("branches", "exact"):
        one = copy.deepcopy(site)
        one.form = form
        one(x).square().sum().backward()
        torch.nn.utils.clip_grad_norm_(one.parameters(), 1.0)
        clipped.append([parameter.grad for parameter in one.parameters()])
    assert all(torch.allclose(*pair, atol=1e-9) for pair in zip(*clipped, strict=True))
