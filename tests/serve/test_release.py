"""A version is opened only if all of it answers."""

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from tiny import write_cascade, write_edge

from potstill.serve.release import Release, Served


def spoil(model: Path) -> None:
    """Give a graph an input that nobody feeds."""
    graph = onnx.load(model)
    graph.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["batch"]))
    onnx.save(graph, model)


def test_a_version_that_answers_is_opened(tmp_path: Path):
    release = Release("reviews", "1", str(write_edge(tmp_path / "edge")))
    assert Served.open(release).release is release


@pytest.mark.parametrize("broken", ["model.onnx", "first/model.onnx"])
def test_a_cascade_of_which_one_model_can_not_answer_is_refused(tmp_path: Path, broken: str):
    folder = write_cascade(tmp_path / "edge")
    card = json.loads((folder / "card.json").read_text())
    # The smaller one is sure of everything.
    (folder / "card.json").write_text(json.dumps(card | {"sure_from": 0.0}))
    Served.open(Release("reviews", "1", str(folder)))
    spoil(folder / broken)
    with pytest.raises(ValueError, match="more"):
        Served.open(Release("reviews", "1", str(folder)))
