import json
import math
from pathlib import Path

import pytest

from potstill.errors import UserError
from potstill.shelves import point_to, shelf_behind
from potstill.store import Folder, folder_digest, resolve, to_json, write_text, writing


def test_a_folder_appears_whole(tmp_path: Path):
    target = tmp_path / "deep" / "model"
    with writing(target) as draft:
        (draft / "a.txt").write_text("1")
        assert not target.exists()
    assert (target / "a.txt").read_text() == "1"


def test_nothing_half_written_stays_after_an_error(tmp_path: Path):
    target = tmp_path / "model"
    with pytest.raises(ZeroDivisionError), writing(target) as draft:
        (draft / "a.txt").write_text(str(1 / 0))
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_earlier_folder_as_it_was(tmp_path: Path):
    target = tmp_path / "model"
    with writing(target) as draft:
        (draft / "a.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), writing(target) as draft:
        (draft / "a.txt").write_text(str(1 / 0))
    assert (target / "a.txt").read_text() == "old"


def test_a_new_folder_replaces_the_earlier_one_wholly(tmp_path: Path):
    for name in ("a.txt", "b.txt"):
        with writing(tmp_path / "model") as draft:
            (draft / name).write_text(name)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["b.txt"]


def test_a_place_that_is_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't write there"), writing(tmp_path / "file" / "model"):
        pass


def test_text_is_replaced_whole(tmp_path: Path):
    path = tmp_path / "a.json"
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_digest_tells_contents_and_names_but_not_places(tmp_path: Path):
    for name, file, text in [("a", "x", "1"), ("b", "x", "1"), ("c", "x", "2"), ("d", "y", "1")]:
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(text)
    digests = {name: folder_digest(tmp_path / name) for name in "abcd"}
    assert digests["a"] == digests["b"]
    assert len({digests[name] for name in "acd"}) == 3


def test_a_path_inside_a_package_is_found_and_others_stay():
    assert Path(resolve("package:potstill/recipe.py")).name == "recipe.py"
    assert resolve("some/encoder") == "some/encoder"


def test_a_package_that_is_not_there_is_named():
    with pytest.raises(UserError, match="the Python package 'no_such_package' is not installed"):
        resolve("package:no_such_package/model")
    with pytest.raises(UserError, match="holds no 'nothing'"):
        resolve("package:potstill/nothing")


def test_what_is_not_a_number_is_null_in_json():
    text = to_json({"a": [1.5, math.nan], "b": {"c": (math.inf, "nan")}, "é": None})
    assert json.loads(text) == {"a": [1.5, None], "b": {"c": [None, "nan"]}, "é": None}
    assert "é" in text


def test_a_folder_may_stand_for_another_as_long_as_that_is_the_same(tmp_path: Path):
    table, stands = tmp_path / "table", tmp_path / "stands"
    for folder in (table, stands):
        folder.mkdir()
    assert shelf_behind(table) == Folder(table)
    (table / "told.json").write_text("1", encoding="utf-8")
    point_to(Folder(table), "told.json", stands)
    assert shelf_behind(stands) == Folder(table)
    (table / "told.json").write_text("2", encoding="utf-8")
    with pytest.raises(UserError, match=r"table: it has changed since .*stands"):
        shelf_behind(stands)
    (table / "told.json").unlink()
    with pytest.raises(UserError, match=r"table: it is gone"):
        shelf_behind(stands)
