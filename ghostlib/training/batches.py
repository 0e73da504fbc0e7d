"""Which recipes see the same batches, and so can be trained together."""

from __future__ import annotations

from ghostlib.training.recipe import Recipe


def decided_by(recipe: Recipe) -> tuple[object, ...]:
    """What of a recipe decides its batches: at one profile and seed, recipes with equal values see the same ones."""
    mixes = recipe.mixup or recipe.cutmix
    return (recipe.batch_size, recipe.crop_scale, recipe.hflip, recipe.augmentation, recipe.erasing, recipe.mixup,
            recipe.cutmix, recipe.label_smoothing if mixes else None)  # mixed labels are smoothed, others not yet
