"""What is timed beside Table 9: no row of the paper's, and nothing that a training's result depends on.

It is not in models/catalog.py, a change of which gives every training another key.
"""

from __future__ import annotations

# A row whose network was made for images of another size -> the name of the same network at the paper's 224 px.
AT_224 = {"MobileViT-XXS": "mobilevit_xxs_224"}
