from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, BertConfig, DistilBertConfig, ElectraConfig, RobertaConfig

from potstill.compress.cut import cut, spread
from potstill.errors import UserError
from potstill.learn.model import load_encoder


@pytest.mark.parametrize(
    ("kept", "layers", "expected"),
    [
        (1, 6, [0]),
        (2, 6, [0, 5]),
        (3, 6, [0, 2, 5]),
        (6, 6, [0, 1, 2, 3, 4, 5]),
        (3, 12, [0, 6, 11]),
        (4, 12, [0, 4, 7, 11]),
    ],
)
def test_layers_are_spread_evenly_with_both_ends(kept: int, layers: int, expected: list[int]):
    assert spread(kept, layers) == expected


def test_the_cut_keeps_the_chosen_layers_weights_and_leaves_the_teacher_alone(encoder: Path):
    teacher = load_encoder(str(encoder))[0]
    student = cut(teacher, [1, 3])
    for kept, source in enumerate((1, 3)):
        for name, value in teacher.encoder.layer[source].state_dict().items():
            assert torch.equal(student.encoder.layer[kept].state_dict()[name], value)
    assert (student.config.num_hidden_layers, teacher.config.num_hidden_layers) == (2, 4)
    with torch.no_grad():
        student.encoder.layer[0].attention.self.query.weight.zero_()
    assert teacher.encoder.layer[1].attention.self.query.weight.abs().sum() > 0


def test_the_cut_equals_the_teacher_stopped_early(encoder: Path):
    teacher = load_encoder(str(encoder))[0].eval()
    ids = torch.tensor([[2, 9, 10, 3]])
    early = teacher(input_ids=ids, output_hidden_states=True).hidden_states[2]
    assert torch.allclose(cut(teacher, [0, 1]).eval()(input_ids=ids).last_hidden_state, early, atol=1e-6)


@pytest.mark.parametrize("asked", [5, [0, 4]])
def test_layers_that_the_teacher_lacks_are_refused(encoder: Path, asked: int | list[int]):
    with pytest.raises(UserError, match="the encoder has 4 layers"):
        cut(load_encoder(str(encoder))[0], asked)


@pytest.mark.parametrize(
    "config",
    [
        BertConfig(num_hidden_layers=3, hidden_size=16, num_attention_heads=2, intermediate_size=16, vocab_size=30),
        RobertaConfig(num_hidden_layers=3, hidden_size=16, num_attention_heads=2, intermediate_size=16, vocab_size=30),
        ElectraConfig(num_hidden_layers=3, hidden_size=16, num_attention_heads=2, intermediate_size=16, vocab_size=30),
        DistilBertConfig(n_layers=3, dim=16, n_heads=2, hidden_dim=16, vocab_size=30),
        AutoConfig.for_model(
            "mpnet", num_hidden_layers=3, hidden_size=16, num_attention_heads=2, intermediate_size=16, vocab_size=30
        ),
    ],
    ids=lambda config: config.model_type,
)
def test_common_architectures_can_be_cut_and_saved(config: AutoConfig, tmp_path: Path):
    student = cut(AutoModel.from_config(config), 2)
    student.save_pretrained(tmp_path)
    assert AutoModel.from_pretrained(tmp_path).config.num_hidden_layers == 2
