import json
import math
from pathlib import Path

import numpy as np
import pytest
from tiny import write_edge

from potstill.drift.pieces import Frequencies, Reader, Risen, risen, unknown_shares


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(write_edge(tmp_path_factory.mktemp("edge") / "small", max_tokens=4))


# The tiny vocabulary: [PAD] [UNK] [CLS] [SEP] good bad kettle.
GOOD, BAD, KETTLE, UNKNOWN = 4, 5, 6, 1


def test_a_text_is_read_whole_and_without_special_tokens(reader: Reader):
    assert reader.read(["good good bad kettle zebra", ""]) == [[GOOD, GOOD, BAD, KETTLE, UNKNOWN], []]
    assert (reader.size, reader.unknown, reader.name(KETTLE)) == (7, UNKNOWN, "kettle")


def test_surprise_is_the_mean_of_what_each_piece_tells(reader: Reader):
    known = Frequencies.learn([[GOOD, GOOD, BAD]], reader.size)
    # Each of the 7 pieces counts once more: good 3, bad 2, all others 1, of 10.
    expected = [-math.log(0.3), -(math.log(0.3) + math.log(0.1)) / 2, math.nan]
    assert known.surprise([[GOOD], [GOOD, KETTLE], []]) == pytest.approx(expected, nan_ok=True)


def test_rarer_pieces_share_what_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("potstill.drift.pieces.MOST_PIECES", 1)
    known = Frequencies.learn([[GOOD] * 5 + [BAD] * 3], 7)
    # The 3 of `bad` are half an occurrence for each of the six other pieces.
    assert known.share(BAD) == known.share(KETTLE) == pytest.approx(1.5 / 15)
    assert known.share(GOOD) + 6 * known.share(BAD) == pytest.approx(1)


def test_frequencies_are_written_and_read():
    known = Frequencies.learn([[GOOD, BAD, GOOD]], 7)
    assert Frequencies.from_spec(json.loads(json.dumps(known.spec()))) == known


def test_the_unknown_share_is_of_a_texts_pieces():
    shares = unknown_shares([[GOOD, UNKNOWN, UNKNOWN, BAD], [GOOD], []], UNKNOWN)
    assert shares == pytest.approx([0.5, 0, math.nan], nan_ok=True)


def test_the_pieces_that_rose_are_told_with_both_shares(reader: Reader):
    known = Frequencies.learn([[GOOD, BAD]] * 100, reader.size)
    assert risen(reader, known, [[GOOD, KETTLE, KETTLE]] * 100) == [
        Risen("kettle", pytest.approx(1 / 207), pytest.approx(201 / 307))
    ]


def test_a_tokenizer_of_single_letters_knows_its_unknown_piece_by_number(tmp_path: Path):
    from tokenizers import Tokenizer, models

    Tokenizer(models.Unigram([("<pad>", 0.0), ("<unk>", 0.0), ("a", -1.0)], unk_id=1)).save(
        str(tmp_path / "tokenizer.json")
    )
    reader = Reader(tmp_path)
    assert reader.unknown == 1
    assert np.array_equal(unknown_shares(reader.read(["aab"]), reader.unknown), [1 / 3])
