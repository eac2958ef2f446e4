import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import made_up
import numpy as np
import pytest

from potstill.evaluate import figures
from potstill.evaluate.calibration import Bin


def texts(svg: str) -> list[str]:
    """What a reader sees written in a figure."""
    return ["".join(e.itertext()).strip() for e in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("outcomes", [2, 3, 77])
def test_every_figure_is_svg_that_asks_for_nothing_from_outside(outcomes: int):
    for name, svg in made_up.drawn(made_up.summary(outcomes)).items():
        root = ET.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg", name
        links = {value for e in root.iter() for key, value in e.attrib.items() if key.endswith("href")}
        assert all(link.startswith(("#", "data:")) for link in links), name


def test_equal_data_gives_equal_bytes_in_another_process_too():
    code = "import json, made_up; print(json.dumps(made_up.drawn(made_up.summary(3)), sort_keys=True))"
    folder = Path(__file__).parent
    runs = [
        subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_quality_latency_names_every_model_with_its_size():
    written = texts(figures.quality_latency(made_up.summary(3, champion=True)["models"], "macro_f1", "macro-F1"))
    assert {"baseline, 1.9 MB", "teacher, 91.0 MB", "edge model, 11.3 MB", "champion, 11.3 MB"} <= set(written)


def test_no_scale_is_written_as_a_formula():
    drawn = [made_up.drawn(made_up.summary(3))[name] for name in ("ladder", "quality_latency")]
    assert all("mathdefault" not in svg for svg in drawn)


def test_latencies_are_written_as_plain_numbers():
    written = texts(figures.quality_latency(made_up.summary(3)["models"], "macro_f1", "macro-F1"))
    assert {"0.2", "1", "10"} <= set(written)


def test_a_figure_outside_its_own_interval_can_be_drawn():
    model = made_up.model_figures(0.9, 0.01, 2.0, 10_000_000) | {"macro_f1_low": 0.91, "macro_f1_high": 0.95}
    assert figures.quality_latency({"student": model}, "macro_f1", "macro-F1").startswith("<svg")


def test_few_classes_show_counts_and_many_do_not():
    few = texts(figures.confusion(np.array([[1234, 7], [0, 8]]), ["yes", "no"]))
    assert {"1,234", "7", "8", "yes", "no"} <= set(few)
    names = [f"intent {i}" for i in range(77)]
    many = texts(figures.confusion(np.eye(77, dtype=np.int64) * 4321, names))
    assert "4,321" not in many
    assert set(names) <= set(many)


def test_a_label_without_test_rows_can_be_drawn():
    assert figures.confusion(np.array([[3, 1], [0, 0]]), ["a", "b"]).startswith("<svg")


@pytest.mark.parametrize(
    "name", ["好评", "$x$ off $y$", "a^{b", "<script>alert(1)</script>", "Tom & Jerry", "]]>", "--", "_hidden", "👍"]
)
def test_labels_are_shown_as_they_are(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = figures.confusion(np.array([[3, 1], [1, 3]]), [name, "other"])
    assert texts(svg).count(name) == 2
    assert "<script" not in svg


def test_each_model_has_a_colour_of_its_own():
    assert len(set(figures.COLOURS.values())) == len(figures.COLOURS)


def test_curves_of_different_length_and_a_single_epoch_can_be_drawn():
    epoch = {"epoch": 1, "loss": 1.0, "validation_macro_f1": 0.5}
    written = texts(
        figures.training_curves({"teacher": [epoch], "student": [epoch, epoch | {"epoch": 2}]}, "macro_f1", "macro-F1")
    )
    assert {"teacher", "student"} <= set(written)


def test_reliability_names_its_models():
    written = texts(
        figures.reliability_diagram(
            {"edge": [Bin(10, 0.7, 0.6), Bin(90, 0.95, 0.9)]}, said="confidence", came="accuracy"
        )
    )
    assert {"edge model", "confidence", "accuracy"} <= set(written)


def test_the_ladder_tells_each_rung_with_its_factors():
    written = texts(figures.ladder(made_up.LADDER))
    assert "student  (macro-F1 0.931)" in written
    assert {"3.90  2.5×", "41.20  2.2×"} <= set(written)


def test_the_escalation_shows_the_curve_and_where_the_cascade_stands():
    drawn = figures.escalation(made_up.CASCADE["curve"], (0.31, 0.924), "macro-F1")
    assert {"macro-F1 of both together", "100%"} <= set(texts(drawn))
    assert drawn != figures.escalation(made_up.CASCADE["curve"], (0.4, 0.924), "macro-F1")


def test_the_frontier_names_what_was_tried_but_what_kept_nothing_that_can_be_told():
    told = made_up.PLAN
    drawn = figures.frontier(told["tried"], told["retention"], told["latency_p95_ms"], "macro-F1")
    assert "student of 1 layer" in drawn
    assert "student of 2 layers" in drawn
    assert "linear baseline" not in drawn
    assert "macro-F1: share of the teacher&#39;s" in drawn or "macro-F1: share of the teacher's" in drawn
