import shutil
from pathlib import Path

import pytest
import torch

from potstill.errors import UserError
from potstill.hub import check_encoder, check_layers


def test_a_whole_folder_and_a_hub_name_pass(encoder: Path):
    check_encoder(str(encoder))
    check_encoder("some-organisation/some-encoder")


def test_a_folder_without_weights_is_refused(encoder: Path, tmp_path: Path):
    shutil.copy(encoder / "config.json", tmp_path)
    with pytest.raises(UserError, match=r"no weights; expected model\.safetensors"):
        check_encoder(str(tmp_path))


def test_pickled_weights_alone_are_refused_and_named(encoder: Path, tmp_path: Path):
    shutil.copy(encoder / "config.json", tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"only pytorch_model\.bin, which may run code"):
        check_encoder(str(tmp_path))


def test_a_missing_folder_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no such folder"):
        check_encoder(str(tmp_path / "nothing"))


def test_a_folder_without_config_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"no config\.json"):
        check_encoder(str(tmp_path))


def test_layers_that_the_encoder_lacks_are_refused_before_any_work(encoder: Path):
    check_layers(str(encoder), 4)
    check_layers(str(encoder), [0, 3])
    for asked in (5, [0, 4]):
        with pytest.raises(UserError, match="the encoder has 4 layers"):
            check_layers(str(encoder), asked)


def test_layers_of_an_encoder_on_a_hub_are_not_judged_before_it_is_loaded():
    check_layers("some-organisation/some-encoder", 48)
