"""A static encoder with and without a hidden layer, and what lies on disk."""

from pathlib import Path

import pytest
import torch

from potstill.learn.model import Head, TaskModel
from potstill.learn.static import StaticConfig, StaticEncoder
from potstill.outcomes import Classification

# Which of two words stands first says nothing, which of two others second neither: only both together do.
EITHER = torch.tensor([[2, 4], [2, 5], [3, 4], [3, 5]])
ANSWERS = torch.tensor([0, 1, 1, 0])


def learnt(hidden: int) -> TaskModel:
    torch.manual_seed(0)
    encoder = StaticEncoder(StaticConfig(6, 8, hidden))
    model = TaskModel(encoder, Head("t", Classification(("same", "other")), "mean", 8))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        loss = torch.nn.functional.cross_entropy(model(EITHER, torch.ones_like(EITHER)), ANSWERS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize(("hidden", "right"), [(0, False), (16, True)])
def test_only_a_hidden_layer_learns_what_words_mean_together(hidden: int, right: bool):
    found = learnt(hidden)(EITHER, torch.ones_like(EITHER)).argmax(1)
    assert torch.equal(found, ANSWERS) is right


def test_what_is_read_is_what_was_written_and_older_folders_have_no_hidden_layer(tmp_path: Path):
    encoder = StaticEncoder(StaticConfig(6, 8, 16))
    encoder.save_pretrained(tmp_path)
    read = StaticEncoder.from_pretrained(tmp_path)
    assert read.config == encoder.config
    assert torch.equal(read.vectors.weight, encoder.vectors.weight)
    told = (tmp_path / "config.json").read_text().replace('"intermediate_size": 16,', "")
    (tmp_path / "config.json").write_text(told)
    assert StaticEncoder.from_pretrained(tmp_path).config.intermediate_size == 0
