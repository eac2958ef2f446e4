"""The ladder of the tiny shop, by the command a user types."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from potstill.commands.ladder import table
from potstill.commands.rungs import Rung
from potstill.data.dataset import read_rows
from potstill.edge import EdgeModel
from potstill.metrics import meanings_of, score
from potstill.outcomes import Classification
from potstill.recipe import load_recipe
from potstill.steps.compress import compress
from potstill.steps.made import First, Origin
from potstill.workshop import Workshop

SETTINGS = (
    "student.prune={heads: 0.5, feed_forward: 0.5, epochs: 2, learning_rate: 1e-2}",
    "compress={vocabulary: trim, sparsity: 0.2, most_lost: 1}",
    "cascade={first: {static: {width: 8}}, epochs: 6, learning_rate: 0.1, most_lost: 0.9}",
)


def write_recipe(folder: Path, encoder: Path, reviews: Path) -> Path:
    training = "epochs: 4, learning_rate: 1e-2, batch_size: 16"
    (folder / "tiny.yaml").write_text(f"""
name: tiny
data: {{source: {reviews}, split: {{by: product}}}}
tasks: {{sentiment: {{label: sentiment}}}}
teacher: {{encoder: {encoder}, max_tokens: 16, {training}}}
student: {{layers: 2}}
distill: {{{training}}}
evaluate: {{latency_rows: 20}}
register: {{model: tiny}}
""")
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory, encoder: Path, reviews_file: Path) -> tuple[Path, Path, str]:
    """Recipe, root, and what the command printed."""
    folder = tmp_path_factory.mktemp("ladder")
    recipe = write_recipe(folder, encoder, reviews_file)
    command = [str(Path(sys.executable).with_name("potstill")), "ladder", str(recipe), "--root", str(folder / "root")]
    done = subprocess.run(
        [*command, *(part for setting in SETTINGS for part in ("--set", setting))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return recipe, folder / "root", done.stdout


def rungs_of(root: Path) -> list[dict[str, str]]:
    with (root / "ladder" / "tiny" / "ladder.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_each_step_has_its_rung_in_order(climbed: tuple[Path, Path, str]):
    _, root, told = climbed
    names = [rung["step"] for rung in rungs_of(root)]
    assert names == [
        "teacher in PyTorch",
        "as ONNX",
        "student of 2 layers",
        "pruned",
        "vocabulary trimmed",
        "smallest weights zero",
        "int8, dynamic",
        "behind a smaller one",
    ]
    assert all(name in told for name in names)
    assert "ladder.svg" in told
    drawn = (root / "ladder" / "tiny" / "ladder.svg").read_text(encoding="utf-8")
    assert "int8, dynamic  (macro-F1" in drawn


def test_rungs_that_change_no_answer_have_the_same_figure_and_those_that_shrink_are_smaller(
    climbed: tuple[Path, Path, str],
):
    _, root, _ = climbed
    torch_, onnx_, student, pruned, trimmed, sparse, small, cascade = rungs_of(root)
    assert float(torch_["figure"]) == pytest.approx(float(onnx_["figure"]), abs=1e-3)
    sizes = [int(rung["size_bytes"]) for rung in (onnx_, student, pruned, trimmed, small)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    assert int(cascade["size_bytes"]) > int(small["size_bytes"])
    assert int(sparse["size_bytes"]) == pytest.approx(int(trimmed["size_bytes"]), rel=0.02)


def test_the_last_rung_is_the_file_that_a_run_would_ship(climbed: tuple[Path, Path, str], tmp_path: Path):
    recipe, root, _ = climbed
    loaded = load_recipe(recipe, SETTINGS)
    shop = Workshop(loaded, root)
    assert loaded.cascade
    students = len(list((root / "made").glob("student-*")))
    student = shop.student(loaded.student)
    first = First(shop.student(loaded.cascade.first, loaded.cascade.knobs(loaded.distill)), "f", loaded.cascade)
    assert len(list((root / "made").glob("student-*"))) == students == 3
    compress(shop.dataset, student, loaded.compress, Origin("t", "d", "t", "s"), tmp_path / "edge", first)
    rows = read_rows(shop.dataset, "test", shop.schema)
    found = EdgeModel(tmp_path / "edge" / "small").probabilities(rows.text)
    assert rungs_of(root)[-1]["figure"] == f"{score(shop.schema.outcome, rows.truth, found)['macro_f1']:.6f}"


def test_factors_are_against_the_first_rung():
    meaning = meanings_of(Classification(("a", "b")))["macro_f1"]
    shown = table([Rung("teacher", 0.8, 10.0, 12.0, 90_000_000), Rung("small", 0.76, 0.5, 1.5, 3_000_000)], meaning)
    cells = [list(column.cells)[1] for column in shown.columns]
    assert cells == ["small", "0.760", "95.0%", "0.50", "20.0×", "1.50", "8.0×", "3.0", "30.0×"]


def test_a_ladder_of_a_form_that_is_still_to_be_found_is_refused(climbed: tuple[Path, Path, str]):
    recipe, root, _ = climbed
    command = [str(Path(sys.executable).with_name("potstill")), "ladder", str(recipe), "--root", str(root)]
    done = subprocess.run([*command, "--set", "plan.candidates=2"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "plan: the student's form is not given; give it, or take the recipe that `potstill plan`" in done.stderr


def test_a_graph_that_is_off_by_more_than_it_may_be_is_told_in_one_line(climbed: tuple[Path, Path, str]):
    recipe, root, _ = climbed
    command = [str(Path(sys.executable).with_name("potstill")), "ladder", str(recipe), "--root", str(root)]
    done = subprocess.run(
        [*command, "--set", "compress.parity_atol=1e-12"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "(compress.parity_atol: 1e-12) and gives the same answer on 100.0%" in done.stderr
