"""Normalisations over several GPUs are refused where PyTorch's conversion would make another network."""

from __future__ import annotations

import pytest

TOLD = "sync_batchnorm = true: PyTorch's conversion makes this another network"


@pytest.mark.parametrize(("network", "same"), [("resnet10", True), ("ghostnetv2_100", False)])
def test_a_run_whose_network_would_lose_an_activation_is_refused(make_run, tiny, network, same):
    run = make_run(profile=tiny.model_copy(update={"sync_batchnorm": True}), network=network, branches=0)
    if same:
        run.network()
    else:
        with pytest.raises(ValueError, match=TOLD):
            run.network()
