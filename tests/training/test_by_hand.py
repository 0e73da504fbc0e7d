"""A training is the one that its recipe says: two epochs are written out by hand, and compared with the loop's.

Other tests compare trainings with each other, so that a fault of every training would be none to them.
"""

from __future__ import annotations

import pytest
import torch
from accelerate.utils import set_seed
from safetensors.torch import load_file

from ghostlib.training import distill, loop
from ghostlib.training.arm import step_seed
from ghostlib.training.build import build_mixup, build_optimizer, build_scheduler
from ghostlib.training.distill import total_loss
from ghostlib.training.recipe import scaled_decay
from ghostlib.training.views import on_device, train_loader


@pytest.mark.parametrize("optimizer", ["lamb", "rmsproptf"])
def test_a_training_is_what_its_recipe_says(make_run, tmp_path, optimizer):
    run = make_run(optimizer=optimizer, lr=1e-3, epochs=2, teacher="weak", alpha=0.7, tau=3.0, label_smoothing=0.1,
                   mixup=0.2, max_grad_norm=0.5, ema_decay=0.99999, ema_decays=(0.99999, 0.999999), warmup=0.2)
    recipe, teacher = run.recipe, distill.stand_in(run.teacher_run.network())
    metrics = loop.train(run.network(), run, tmp_path, teacher)

    network = run.network().train().to(memory_format=torch.channels_last)
    optimizer, mixup = build_optimizer(recipe, network), build_mixup(recipe, 10)
    scheduler, decay = build_scheduler(recipe, optimizer, run.steps), scaled_decay(recipe.ema_decay, run.steps)
    average = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    loader, order = train_loader(run.splits.train, recipe, run.profile, run.seed)
    for order.epoch in range(recipe.epochs):
        losses, right = [], 0
        for number, batch in enumerate(loader, order.epoch * order.steps):
            views, labels = on_device(batch, torch.device("cpu"))
            set_seed(step_seed(run, number))
            views, targets = mixup(views, labels)
            set_seed(step_seed(run, number))
            scheduler.step_update(number)
            logits = network(views)
            loss = total_loss(logits, targets, teacher(views), recipe.alpha, recipe.tau, recipe.label_smoothing)
            loss.backward()
            if recipe.optimizer != "lamb":
                torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            for name, tensor in network.state_dict().items():
                average[name] = decay * average[name] + (1 - decay) * tensor
            losses.append(loss.item())
            right += (logits.argmax(-1) == labels).sum().item()
        record = metrics["history"][order.epoch]
        assert record["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
        assert record["accuracy"] == pytest.approx(100 * right / 48)
    for file, expected in (("weights", network.state_dict()), ("ema", average)):
        found = load_file(tmp_path / f"{file}.safetensors")
        for name, tensor in found.items():
            if tensor.is_floating_point():
                torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)
