"""The paper's numbers: complete, readable, and consistent with what the paper says in prose."""

import math
import subprocess
import sys
from importlib import resources

import pytest
import yaml

from ghostlib.paper import exhibits, numbers

SHAPES = {
    "table_1": (2, 3),
    "table_2": (5, 2),
    "table_3": (3, 3),
    "table_4": (2, 3),
    "table_5": (2, 3),
    "table_6": (1, 3),
    "table_7": (1, 5),
    "table_8": (6, 2),
    "table_9": (43, 6),
    "table_10": (8, 2),
    "figure_3": (2, 5),
    "figure_4": (2, 5),
}

# Cells without a printed value; in Table 9 they are the dashes of the Top-5 column.
UNPUBLISHED = {"table_2": 1, "table_9": 22, "figure_3": 10, "figure_4": 10}

# The range a column's numbers must lie in; every column not named here holds ImageNet top-1 accuracy.
RANGES = {
    numbers.PARAMS: (1, 20),  # the paper compares networks below 20 M
    numbers.MACS: (40, 3000),
    numbers.CPU: (1, 130),
    numbers.MOBILE: (5, 170),
    numbers.TOP5: (86, 96),
    numbers.MAP: (20, 25),
}


def test_every_table_and_figure_is_there():
    assert set(numbers.load()) == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_shape_and_gaps(name):
    frame = numbers.table(name)
    assert frame.shape == SHAPES[name]
    assert frame.dtypes.eq("float64").all()
    assert frame.isna().sum().sum() == UNPUBLISHED.get(name, 0)
    assert frame.index.is_unique and frame.columns.is_unique


@pytest.mark.parametrize("name", SHAPES)
def test_labels_are_text(name):
    entry = numbers.load()[name]
    labels = [*entry.get("notes", []), *entry["columns"], *entry["rows"]]
    assert all(isinstance(label, str) and label.strip() == label != "" for label in labels)
    assert ("quantity" in entry) == (name not in ("table_9", "table_10"))


@pytest.mark.parametrize("name", SHAPES)
def test_numbers_are_plausible(name):
    for column, cells in numbers.table(name).items():
        low, high = RANGES.get(column, (66, 81))
        published = cells.dropna()
        assert published.between(low, high).all(), (name, column, published.to_dict())


@pytest.mark.parametrize("file", ["numbers.yaml", "exhibits.yaml"])
def test_no_row_is_written_twice(file):
    """A YAML mapping keeps the last of two equal keys without a word, so the labels are compared before that."""
    text = resources.files("ghostlib.paper").joinpath(file).read_text(encoding="utf-8")

    def check(node):
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys)), keys
            for _, child in node.value:
                check(child)

    check(yaml.compose(text))


@pytest.mark.parametrize(
    ("name", "row", "column", "expected"),
    [
        ("table_1", "w/o ReP", "1.0×", 75.3),
        ("table_1", "w/ ReP", "1.6×", 78.7),
        ("table_2", "N=1", "w/o 1×1 DW", 77.3),
        ("table_2", "N=4", "w/ 1×1 DW", 77.5),
        ("table_3", "ResNet-101", "α=1.0", 78.20),
        ("table_3", "BEiTv2-B", "α=0.9", 79.02),
        ("table_4", "α=0.5", "τ=2", 77.98),
        ("table_4", "α=1.0", "τ=4", 77.70),
        ("table_5", "w/o 1×1 DW", "N=3", 78.85),
        ("table_5", "w/ 1×1 DW", "N=1", 78.80),
        ("table_6", "w/ ReP&KD", "cosine_1e-5", 78.97),
        ("table_7", "w/ ReP&KD", "0.1", 78.83),
        ("table_8", "AutoAug", "GhostNetV3", 78.78),
        ("table_8", "RandAug + Mixup + CutMix + Erasing", "DeiT-tiny", 76.02),
        ("table_9", "GhostNetV1 0.5×", "Top-5 (%)", 86.6),
        ("table_9", "PiT-xs", "FLOPs (M)", 1400),
        ("table_9", "Mobileformer-508", "Mobile latency (ms)", 163.39),
        ("table_9", "GhostNetV3 1.6×", "Params (M)", 12.3),
        ("table_10", "GhostNetV1 1.1× @320", "FLOPs (M)", 338),
        ("table_10", "GhostNetV3 1.0× @416", "mAP", 24.6),
    ],
)
def test_spot_values(name, row, column, expected):
    assert numbers.value(name, row, column) == expected
    assert numbers.table(name).loc[row, column] == expected


def test_unpublished_value_is_nan():
    assert math.isnan(numbers.value("table_2", "N=1", "w/ 1×1 DW"))
    assert math.isnan(numbers.value("table_9", "MobileViT-S", "Top-5 (%)"))


def test_order_is_the_papers():
    frame = numbers.table("table_9")
    assert list(frame.index[[0, 6, 20, -1]]) == [
        "GhostNetV1 0.5×",
        "ShuffleNetV2 1.0× + ours",
        "MobileNetV2 1.0× + ours",
        "GhostNetV3 1.6×",
    ]
    assert list(numbers.table("table_4").columns) == ["τ=1", "τ=2", "τ=4"]


def test_prose_of_section_5_1():
    """Re-parameterization helps at every width; without the 1×1 DW more branches never help; N=3 peaks at 77.6."""
    widths, branches = numbers.table("table_1"), numbers.table("table_2")
    assert (widths.loc["w/ ReP"] > widths.loc["w/o ReP"]).all()
    assert branches["w/o 1×1 DW"].is_monotonic_decreasing
    assert branches["w/ 1×1 DW"].idxmax() == "N=3" and branches["w/ 1×1 DW"].max() == 77.6


def test_prose_of_section_5_2():
    """A better teacher and a lower temperature help, distillation alone (α=1.0) hurts, the 1×1 DW helps."""
    teachers, temperatures, branches = (numbers.table(f"table_{n}") for n in (3, 4, 5))
    assert all(cells.is_monotonic_increasing for _, cells in teachers.items())
    assert all(cells.is_monotonic_decreasing for _, cells in temperatures.iterrows())
    assert (temperatures.loc["α=1.0"] < temperatures.loc["α=0.5"]).all()
    assert (branches.loc["w/ 1×1 DW"] > branches.loc["w/o 1×1 DW"]).all()


def test_the_final_recipe_scores_the_same_in_every_ablation():
    """Tables 3 to 8 contain the chosen setting, and it is the best of each."""
    for name, row, column in [
        ("table_3", "BEiTv2-B", "α=0.5"),
        ("table_4", "α=0.5", "τ=1"),
        ("table_5", "w/ 1×1 DW", "N=3"),
        ("table_6", "w/ ReP&KD", "cosine_0"),
        ("table_7", "w/ ReP&KD", "0.05"),
        ("table_8", "RandAug + Erasing", "GhostNetV3"),
    ]:
        assert numbers.value(name, row, column) == numbers.table(name).max().max() == 79.13


def test_prose_of_section_5_4():
    """Mixup, and CutMix on top of it, lower the accuracy of both networks."""
    frame = numbers.table("table_8")
    assert (frame.loc["RandAug + Mixup"] < frame.loc["RandAug"]).all()
    assert (frame.loc["RandAug + Mixup + CutMix"] < frame.loc["RandAug + Mixup"]).all()
    assert frame.idxmax().eq("RandAug + Erasing").all()


def test_prose_of_section_5_5():
    """The abstract's 1.3× row, and the gains and ratios that the text states."""
    frame = numbers.table("table_9")
    top1, cpu = frame["Top-1 (%)"], frame["CPU latency (ms)"]
    assert frame.loc["GhostNetV3 1.3×", ["Top-1 (%)", "FLOPs (M)", "CPU latency (ms)"]].tolist() == [79.1, 269, 14.46]

    def gain(ours, theirs):
        return round(top1[ours] - top1[theirs], 1)

    assert gain("ShuffleNetV2 1.0× + ours", "ShuffleNetV2 1.0×") == 2.2
    assert gain("MobileNetV2 1.0× + ours", "MobileNetV2 1.0×") == 3.0
    assert gain("GhostNetV3 1.0×", "MobileNetV2 1.0×") == 5.1
    assert gain("GhostNetV3 1.0×", "MobileOne-S1") == 1.2
    assert gain("GhostNetV3 1.0×", "FBNet-C") == 2.2
    assert gain("GhostNetV3 1.0×", "MobileNetV3-L") == gain("GhostNetV3 1.0×", "MNASNet-A1") == 1.9
    assert gain("GhostNetV3 1.3×", "EfficientNet-B0") == 2.8
    assert gain("GhostNetV3 1.3×", "MobileOne-S2") == 1.7
    assert cpu["MobileOne-S4"] / cpu["GhostNetV3 1.6×"] == pytest.approx(2.8, abs=0.01)
    assert cpu["Mobileformer-508"] / cpu["GhostNetV3 1.6×"] == pytest.approx(6.8, abs=0.1)
    assert (frame["Mobile latency (ms)"] > cpu).all()


@pytest.mark.parametrize("width", ["1.0×", "1.3×", "1.6×"])
def test_the_strategy_changes_only_the_accuracy(width):
    """V3 is V2 trained otherwise: the same size and latency, and V2's accuracy is Table 1's w/o ReP."""
    frame = numbers.table("table_9")
    v2, v3 = frame.loc[f"GhostNetV2 {width}"], frame.loc[f"GhostNetV3 {width}"]
    assert v2.iloc[:4].equals(v3.iloc[:4])
    assert (v3.iloc[4:] > v2.iloc[4:]).all()
    assert v2["Top-1 (%)"] == numbers.value("table_1", "w/o ReP", width)


def test_prose_of_section_5_6():
    """GhostNetV3 gains 0.4 and 0.5 mAP over V2 and beats MobileNetV2 with fewer FLOPs."""
    frame = numbers.table("table_10")
    for resolution, gain in [(320, 0.4), (416, 0.5)]:
        v2, v3, mobile = (
            frame.loc[f"{backbone} @{resolution}"] for backbone in ("GhostNetV2 1.0×", "GhostNetV3 1.0×", "MobileNetV2")
        )
        assert v3["mAP"] - v2["mAP"] == pytest.approx(gain)
        assert v3["mAP"] > mobile["mAP"] and v3["FLOPs (M)"] < mobile["FLOPs (M)"]


@pytest.mark.parametrize("resolution", [320, 416])
def test_detection_flops_are_the_classifiers_rescaled(resolution):
    """Also shows that the paper's 320×230 is 320×320."""
    for backbone, classifier in [("MobileNetV2", "MobileNetV2 1.0×"), ("GhostNetV3 1.0×", "GhostNetV3 1.0×")]:
        rescaled = numbers.value("table_9", classifier, "FLOPs (M)") * (resolution / 224) ** 2
        assert numbers.value("table_10", f"{backbone} @{resolution}", "FLOPs (M)") == pytest.approx(rescaled, rel=0.01)


def test_unknown_names_say_what_is_known():
    with pytest.raises(ValueError, match="table_11.*table_1, .*figure_4"):
        numbers.table("table_11")
    with pytest.raises(ValueError, match="N=6.*N=1, N=2"):
        numbers.value("table_2", "N=6", "w/ 1×1 DW")
    with pytest.raises(ValueError, match="τ=3.*τ=1, τ=2"):
        numbers.value("table_4", "α=0.5", "τ=3")


def test_import_is_cheap():
    """Reading a number must not cost the import of pandas."""
    code = "import sys; from ghostlib.paper import numbers; numbers.load(); sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_list_of_exhibits_is_all_tables_and_figures_in_the_paper_s_order():
    assert list(exhibits.load()) == [*(f"table_{number}" for number in range(1, 11)),
                                     *(f"figure_{number}" for number in range(1, 6))]
    assert set(numbers.load()) <= set(exhibits.load())
    for exhibit in exhibits.load().values():
        assert exhibit.title.endswith(".") and exhibit.title.strip() == exhibit.title
        assert exhibit.section.split(".")[0] in ("1", "4", "5")
        assert exhibit.notebook in (exhibit.name, exhibit.stage)
    assert exhibits.find("table_1").heading.startswith("Table 1: GhostNetV2 at three widths")


def test_an_unknown_exhibit_names_the_known_ones():
    with pytest.raises(ValueError, match="'table_11'.*table_1, .*figure_5"):
        exhibits.find("table_11")
