"""Several processes that train one detector together: each takes a part of every batch, and their gradients add up."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.dist import get_dist_info
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DATA_SAMPLERS, MODEL_WRAPPERS
from torch import nn
from torch.utils.data import BatchSampler, Sampler

from ghostlib.machine import world_size
from ghostlib.training.processes import joined
from ghostlib.training.split import Split


def join(device: str) -> bool:
    """Connects with the other processes that torchrun or `accelerate launch` started; a second time, does nothing.

    From then on "cuda" is the GPU of this process.

    Args:
        device: "cpu" or "cuda".

    Returns:
        Whether there are others.
    """
    if world_size() == 1:
        return False
    joined(device)  # MMEngine takes the group that it finds; to make one itself, it wants GPUs
    return True


def share(config: Config) -> None:
    """Has a configuration train in all processes that have joined, on the batches that one process would see.

    Its batch is that of all processes together. The images of a batch are the same however many there are; what is
    drawn for them, and the statistics of a batch normalisation, are each process's own; and where an epoch's last batch
    has fewer images than there are processes, its first image counts more than once.

    Raises:
        ValueError: the batch cannot be split evenly.
    """
    loader, (rank, processes) = config.train_dataloader, get_dist_info()
    # MMEngine scales a rate (auto_scale_lr) by this number times that of the processes.
    loader.batch_size = Split(loader.batch_size, rank=rank, processes=processes).size
    loader.sampler.type = "WholeOrder"
    loader.batch_sampler = dict(type="PartOfBatch", whole=loader.batch_sampler)
    config.launcher = "pytorch"
    config.model_wrapper_cfg = dict(type="SummedGradients")
    # Running statistics are a moving average: its mean over the processes after an epoch is as if taken at every step.
    config.custom_hooks = [*config.get("custom_hooks", []), dict(type="SyncBuffersHook")]
    config.val_evaluator.collect_device = "gpu"  # by the group, CPUs' too; "cpu" is by files in the working directory


@DATA_SAMPLERS.register_module(force=True)
class WholeOrder(DefaultSampler):
    """The order of all images of an epoch; MMEngine's sampler deals it over the processes before there are batches."""

    def __init__(self, dataset: Any, **settings: Any):
        super().__init__(dataset, **settings)
        self.rank, self.world_size = 0, 1
        self.num_samples = self.total_size = len(dataset)


@DATA_SAMPLERS.register_module(force=True)
class PartOfBatch(BatchSampler):
    """This process's images of every batch.

    Args:
        sampler: the order of all images.
        batch_size: images of a process.
        whole: the configuration of the sampler that makes batches for all processes.
    """

    def __init__(self, sampler: Sampler, batch_size: int, whole: dict[str, Any]):
        self.rank, self.processes = get_dist_info()
        self.sampler, self.batch_size = sampler, batch_size
        self.whole = DATA_SAMPLERS.build(
            whole, default_args=dict(sampler=sampler, batch_size=batch_size * self.processes))

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.whole:
            # An epoch's last batch may have fewer images than there are processes; all must take part in a step.
            yield batch[self.rank::self.processes] or batch[:1]

    def __len__(self) -> int:
        return len(self.whole)


@MODEL_WRAPPERS.register_module(force=True)
class SummedGradients(MMDistributedDataParallel):
    """Adds up the gradients of the processes: PyTorch takes their mean, but a YOLOv3's loss is a sum over images."""

    def __init__(self, module: nn.Module, device_ids: list[int] | None = None):
        # Now, not later: PyTorch would write gradients as the weights lay here, and read them as they lie then.
        module.to(memory_format=torch.channels_last)
        with warnings.catch_warnings():  # the name that PyTorch gives it from now on, older ones do not know
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            # Without the devices: MMEngine names a GPU even on a CPU, and the module is where it belongs already.
            super().__init__(module, broadcast_buffers=False)
        self.register_comm_hook(None, _sum)


def _sum(_, bucket):  # PyTorch reads its annotations, and takes none in quotes, as this file's are
    shared = torch.distributed.all_reduce(bucket.buffer(), async_op=True).get_future()
    return shared.then(lambda done: done.value()[0])
