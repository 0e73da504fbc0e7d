"""Distillation: Eq. 3 and Eq. 4 as written by hand, and a teacher that stays as it is."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from huggingface_hub.constants import HF_HUB_CACHE
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from ghostlib.training.distill import Teacher, distillation_loss, pretrained, total_loss
from ghostlib.training.images import DataError

steady = settings(max_examples=60, deadline=None, derandomize=True)
taus = st.floats(0.25, 16)
alphas = st.floats(0, 1)
pairs = st.tuples(st.integers(1, 5), st.integers(2, 7)).flatmap(
    lambda shape: st.tuples(*[arrays(np.float64, shape, elements=st.floats(-10, 10))] * 2))

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_hand(student: np.ndarray, teacher: np.ndarray, tau: float) -> float:
    """τ²·KL(softmax(teacher/τ) ‖ softmax(student/τ)), mean over the rows."""
    p, q = softmax(teacher / tau), softmax(student / tau)
    return tau**2 * (p * (np.log(p) - np.log(q))).sum(-1).mean()


def logits(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# -- Eq. 4


@given(pair=pairs, tau=taus)
@steady
def test_eq_4_is_the_divergence_written_by_hand(pair, tau):
    student, teacher = pair
    found = distillation_loss(torch.from_numpy(student), torch.from_numpy(teacher), tau).item()
    assert found == pytest.approx(by_hand(student, teacher, tau), rel=1e-9, abs=1e-11)
    assert found >= -1e-12


@given(pair=pairs, tau=taus, shift=st.floats(-5, 5))
@steady
def test_equal_answers_cost_nothing_and_a_constant_added_to_logits_does_not_matter(pair, tau, shift):
    student = torch.from_numpy(pair[0])
    assert distillation_loss(student, student + shift, tau).item() == pytest.approx(0, abs=1e-11)


@given(pair=pairs, tau=taus)
@steady
def test_the_gradient_is_tau_times_the_difference_of_the_softened_answers(pair, tau):
    student, teacher = torch.from_numpy(pair[0]).requires_grad_(), torch.from_numpy(pair[1])
    distillation_loss(student, teacher, tau).backward()
    expected = tau * (softmax(pair[0] / tau) - softmax(pair[1] / tau)) / len(pair[0])
    np.testing.assert_allclose(student.grad.numpy(), expected, atol=1e-10)


def test_tau_squared_keeps_the_gradients_size_at_high_temperature():
    teacher = logits(8, 10, seed=1)

    def slope(tau: float) -> Tensor:
        student = logits(8, 10).requires_grad_()
        distillation_loss(student, teacher, tau).backward()
        return student.grad

    # Hinton et al. (2015), Eq. 4: at high temperature the gradient is that of half the squared difference of logits.
    difference = logits(8, 10) - teacher
    limit = (difference - difference.mean(-1, keepdim=True)) / 10 / 8
    torch.testing.assert_close(slope(1e4), limit, rtol=0, atol=1e-4)
    assert 0.5 < slope(8).norm() / slope(4).norm() < 2


def test_the_temperature_divides_the_logits_and_not_the_softmax():
    student, teacher, tau = logits(4, 5), logits(4, 5, seed=1), 4.0
    p, q = softmax(teacher.numpy()) / tau, softmax(student.numpy()) / tau  # the paper's print
    as_printed = tau**2 * (p * np.log(p / q)).sum(-1).mean()
    found = distillation_loss(student, teacher, tau).item()
    assert abs(found - as_printed) > 0.1 * abs(found)
    # Dividing the logits, unlike the softmax, cannot be told from a network whose logits are smaller.
    assert found / tau**2 == pytest.approx(distillation_loss(student / tau, teacher / tau, 1.0).item())


def test_eq_4_is_a_mean_over_the_batch():
    student, teacher = logits(4, 5), logits(4, 5, seed=1)
    rows = [distillation_loss(student[i:i + 1], teacher[i:i + 1], 2.0) for i in range(4)]
    torch.testing.assert_close(distillation_loss(student, teacher, 2.0), torch.stack(rows).mean())


# -- Eq. 3


@given(alpha=alphas, tau=taus, seed=st.integers(0, 1000))
@steady
def test_eq_3_weighs_cross_entropy_and_distillation(alpha, tau, seed):
    student, teacher = logits(6, 4, seed=seed), logits(6, 4, seed=seed + 1)
    target = torch.arange(6) % 4
    cross_entropy = -np.log(softmax(student.numpy()))[np.arange(6), target.numpy()].mean()
    expected = (1 - alpha) * cross_entropy + alpha * by_hand(student.numpy(), teacher.numpy(), tau)
    assert total_loss(student, target, teacher, alpha, tau).item() == pytest.approx(expected, rel=1e-9)


@given(alpha=alphas)
@steady
def test_eq_3_takes_soft_targets(alpha):
    student, teacher, target = logits(6, 4), logits(6, 4, seed=1), torch.softmax(logits(6, 4, seed=2), -1)
    cross_entropy = -(target.numpy() * np.log(softmax(student.numpy()))).sum(-1).mean()
    expected = (1 - alpha) * cross_entropy + alpha * by_hand(student.numpy(), teacher.numpy(), 2.0)
    assert total_loss(student, target, teacher, alpha, 2.0).item() == pytest.approx(expected, rel=1e-9)


def test_a_soft_target_of_one_class_is_the_class():
    student, target = logits(6, 4), torch.arange(6) % 4
    one_hot = F.one_hot(target, 4).double()
    torch.testing.assert_close(total_loss(student, one_hot), total_loss(student, target))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_without_a_teacher_it_is_plain_cross_entropy_whatever_alpha(alpha):
    student, target = logits(6, 4), torch.arange(6) % 4
    assert torch.equal(total_loss(student, target, None, alpha, 4.0), F.cross_entropy(student, target))


def test_alpha_1_asks_the_teacher_alone():
    student, teacher, target = logits(6, 4), logits(6, 4, seed=1), torch.arange(6) % 4
    found = total_loss(student, target, teacher, 1.0, 2.0)
    assert torch.equal(found, total_loss(student, target.flip(0), teacher, 1.0, 2.0))
    torch.testing.assert_close(found, distillation_loss(student, teacher, 2.0))


def test_smoothing_is_of_classes_and_not_of_targets_already_smoothed():
    student, target = logits(6, 4), torch.arange(6) % 4
    smoothed = 0.9 * F.one_hot(target, 4).double() + 0.1 / 4
    by_class = total_loss(student, target, label_smoothing=0.1)
    torch.testing.assert_close(by_class, total_loss(student, smoothed, label_smoothing=0.1))
    assert not torch.isclose(by_class, total_loss(student, target))


def test_no_gradient_reaches_the_teacher_through_a_frozen_network():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    teacher = Teacher(network, *IMAGENET, *IMAGENET)
    student = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    views = torch.randn(5, 3, 2, 2)
    total_loss(student(views), torch.zeros(5, dtype=torch.long), teacher(views)).backward()
    assert student[1].weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())


# -- the teacher


def normalised(image: Tensor, mean: tuple, std: tuple) -> Tensor:
    return (image - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


@pytest.mark.parametrize(("of_teacher", "of_student"), [(HALF, IMAGENET), (IMAGENET, HALF), (IMAGENET, IMAGENET)])
def test_a_teacher_sees_the_image_in_its_own_normalisation(of_teacher, of_student):
    image = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    teacher = Teacher(nn.Identity(), *of_teacher, *of_student)
    torch.testing.assert_close(teacher(normalised(image, *of_student)), normalised(image, *of_teacher),
                               atol=2e-6, rtol=0)


def test_a_teacher_of_the_same_normalisation_sees_the_very_views():
    views = torch.randn(2, 3, 4, 4)
    teacher = Teacher(nn.Identity(), *IMAGENET, *IMAGENET)
    assert teacher.identical and torch.equal(teacher(views), views)
    assert not Teacher(nn.Identity(), *HALF, *IMAGENET).identical
    assert not Teacher(nn.Identity(), (0.485, 0.456, 0.4), IMAGENET[1], *IMAGENET).identical
    assert not Teacher(nn.Identity(), IMAGENET[0], (0.229, 0.224, 0.2), *IMAGENET).identical


def make_teacher() -> Teacher:
    return Teacher(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).train(), *HALF, *IMAGENET)


def test_a_teacher_never_trains():
    teacher, views = make_teacher(), torch.randn(2, 3, 4, 4)
    state = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    expected = teacher(views)
    assert teacher.train() is teacher
    nn.ModuleList([teacher]).train()
    assert not any(module.training for module in teacher.modules())
    assert torch.equal(teacher(views), expected), "neither dropout nor the statistics of a batch"
    assert all(torch.equal(tensor, state[name]) for name, tensor in teacher.state_dict().items())


def test_a_teachers_answers_have_no_gradient():
    teacher = make_teacher()
    views = torch.randn(2, 3, 4, 4, requires_grad=True)
    assert not teacher(views).requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert torch.is_grad_enabled()


def test_a_teacher_does_not_change_the_views_it_is_given():
    views = torch.randn(2, 3, 4, 4)
    before = views.clone()
    make_teacher()(views)
    assert torch.equal(views, before)


def test_the_normalisation_follows_the_teacher_but_is_not_part_of_its_weights():
    teacher = Teacher(nn.Conv2d(3, 1, 1), *HALF, *IMAGENET)
    assert set(teacher.state_dict()) == {"network.weight", "network.bias"}
    assert teacher.double().scale.dtype == torch.float64
    assert teacher(torch.zeros(1, 3, 2, 2, dtype=torch.float64)).dtype == torch.float64


# -- weights of timm's


def test_a_teacher_that_timm_does_not_have_is_told_with_the_nearest():
    with pytest.raises(DataError, match="resnet101.tv_in1: timm .* no such weights; did you mean 'resnet101.tv"):
        pretrained("resnet101.tv_in1", 1000)


def test_where_timm_cannot_download_the_file_and_its_place_are_told(monkeypatch):
    def offline(*args, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(DataError) as error:
        pretrained("resnet101.tv_in1k", 1000)
    told = str(error.value)
    assert "no route to host" in told and "hf download timm/resnet101.tv_in1k model.safetensors config.json" in told
    assert f"models--timm--resnet101.tv_in1k; copy that folder into {HF_HUB_CACHE}" in told


def test_a_teacher_of_other_classes_is_refused(monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: SimpleNamespace(num_classes=1000))
    with pytest.raises(ValueError, match="knows 1000 classes, the profile has 100"):
        pretrained("resnet101.tv_in1k", 100)
