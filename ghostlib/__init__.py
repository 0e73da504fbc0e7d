"""GhostNetV3's training strategy for compact networks, and the evidence for it."""

__version__ = "0.1.0"
