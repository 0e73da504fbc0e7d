"""How a scene is laid out: the record that experiments.yaml fills in."""

from __future__ import annotations

from pydantic import Field, model_validator

from ghostlib.config import Config
from ghostlib.training.recipe import Share


class Layout(Config):
    """How the scenes of a detection set are drawn."""

    train: int = Field(400, ge=1, description="number of scenes to train on")
    val: int = Field(100, ge=1, description="number of scenes to evaluate on, and to choose rates on")
    side: int = Field(256, ge=1, description="of the square canvas (px)")
    objects: tuple[int, int] = Field((2, 6), description="fewest and most in a scene; fewer where no more find room")
    sizes: tuple[int, int] = Field((24, 144), description="smallest and largest side (px) that an image is enlarged "
                                                          "to, drawn evenly on a logarithmic scale")
    overlap: Share = Field(0.1, description="the largest share of an object's box that another one's may cover")
    clutter: int = Field(12, ge=0, description="number of lines, ellipses and pieces of objects in a scene")
    seed: int = Field(0, ge=0, description="of everything that is drawn")

    @model_validator(mode="after")
    def _ranges(self) -> Layout:
        for name, (least, most) in {"objects": self.objects, "sizes": self.sizes}.items():
            if not 1 <= least <= most:
                raise ValueError(f"{name} = {(least, most)} must be the least and the most, from 1 on")
        if self.sizes[1] > self.side:
            raise ValueError(f"sizes = {self.sizes}: an object of {self.sizes[1]} px has no room on {self.side} px")
        return self
