"""What an arm does beside its steps."""

from __future__ import annotations

import torch
from accelerate import Accelerator

from ghostlib.training.arm import Arm
from ghostlib.training.distill import Teacher, stand_in


def test_a_pass_that_is_tried_leaves_nothing_behind(make_run, tmp_path):
    run = make_run(teacher="weak", network="ghostnetv2_100", branches=1)
    arm = Arm(run.network(), run, tmp_path, stand_in(run.teacher_run.network()))
    arm.begin(Accelerator(cpu=True), epoch_steps=3)
    before = {name: tensor.clone() for name, tensor in arm.network.state_dict().items()}
    seen: list[int] = []
    arm.network.register_forward_hook(lambda module, views, logits: seen.append(len(logits)))
    arm.try_pass(8)
    assert seen == [8] and isinstance(arm.teacher, Teacher)
    assert all(map(torch.equal, arm.network.state_dict().values(), before.values()))
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in arm.network.parameters())
