"""A teacher: one of timm's pretrained networks, or what an earlier training wrote."""

from __future__ import annotations

import hashlib
from pathlib import Path

import timm

from ghostlib.models.flow import run
from ghostlib.own.network import example, millions
from ghostlib.own.weights import find_file, load, read_card, some
from ghostlib.training import distill
from ghostlib.training.distill import Teacher
from ghostlib.training.views import MEAN, STD


def load_teacher(text: str, classes: list[str], image_size: int) -> tuple[Teacher, str, str]:
    """The teacher, what identifies it, and what to call it in a table, with the size of its images if that is another.

    Args:
        text: timm's name, a folder or a model.safetensors.
        classes: of the student, in the order of its outputs.
        image_size: px of the student's images, of which the teacher gets the same views.

    Raises:
        ValueError: there is no such teacher, it knows other classes, or it cannot take the student's images.
    """
    teacher, identity, called = _find(text, classes, image_size)
    try:
        run(teacher, example(image_size))
    except ValueError as error:
        raise ValueError(f"teacher {text} cannot take the student's images of {image_size} px ({error.__cause__}); "
                         "train the student at the teacher's size (--set image_size=...), or take another teacher"
                         ) from error
    return teacher, identity, called


def _find(text: str, classes: list[str], image_size: int) -> tuple[Teacher, str, str]:
    if Path(text).exists():
        file = find_file(Path(text))
        card = read_card(file)
        if card["label_names"] != classes:
            raise ValueError(f"teacher {text} knows the classes {some(card['label_names'])}, the images have "
                             f"{some(classes)}; choose a teacher trained on the same classes")
        network = load(file)
        identity = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        wanted = network.pretrained_cfg
        teacher = Teacher(network, wanted["mean"], wanted["std"], MEAN, STD)
        other = f", trained at {card['image_size']} px" * (card["image_size"] != image_size)
        return teacher, identity, f"{text}, {card['network']}, {millions(network):.2f} M parameters{other}"
    text = text.removeprefix("timm/")  # as the network's name has it
    if not timm.is_model(text):
        raise ValueError(f"teacher = {text!r} is neither a folder or file of an earlier `ghostlib train` nor a network "
                         "of timm's; train one (`ghostlib train resnet50 DATA --set branches=0 --out teacher`) and "
                         "name its folder, or see timm.list_models(pretrained=True)")
    known = (timm.get_pretrained_cfg(text) or timm.models.PretrainedCfg(num_classes=0)).num_classes
    if known != len(classes):
        raise ValueError(f"teacher {text} knows {known} classes, the images have {len(classes)}; train one on your "
                         f"images (`ghostlib train timm/{text} DATA --set pretrained=true branches=0 epochs=30 "
                         "--out teacher`) and name its folder")
    teacher = distill.pretrained(text, len(classes))
    return teacher, text, f"{text}, pretrained, {millions(teacher.network):.1f} M parameters"
