"""timm's way to look at and replace a network's classifier, for networks that are not timm's."""

from __future__ import annotations

from torch import nn


class ReplaceableClassifier:
    """What a network with a linear classifier at the end mixes in; it sets these.

    Attributes:
        classifier_name: of the classifier's module.
        head_hidden_size: the number of features that go into it.
    """

    classifier_name = "classifier"
    head_hidden_size: int

    def get_classifier(self) -> nn.Module:
        return self.get_submodule(self.classifier_name)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new linear classifier; 0 classes leave the features that go into it."""
        self.num_classes = num_classes
        layer = nn.Linear(self.head_hidden_size, num_classes) if num_classes else nn.Identity()
        parent, _, name = self.classifier_name.rpartition(".")
        setattr(self.get_submodule(parent), name, layer.apply(initialize))


def initialize(module: nn.Module) -> None:
    """The usual start of a compact network, for `nn.Module.apply`."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
