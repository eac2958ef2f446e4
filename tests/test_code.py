import shutil
from pathlib import Path

import pytest

import potstill
from potstill.code import code_version, source_digest

LIBRARIES = {"torch": "2.13.0"}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, with components and pipelines inside."""
    shutil.copytree(Path(potstill.__file__).parent, tmp_path / "potstill")
    return tmp_path / "potstill"


@pytest.mark.parametrize(
    "edited", ["learn/terms.py", "components/teach/component.py", "pipelines/distill.py", "evaluate/report.html"]
)
def test_an_edit_of_any_source_changes_the_version(package: Path, edited: str):
    before = source_digest(package, LIBRARIES)
    with (package / edited).open("a", encoding="utf-8") as file:
        file.write("\n# edited\n")
    assert source_digest(package, LIBRARIES) != before


def test_another_version_of_a_library_changes_the_version(package: Path):
    assert source_digest(package, LIBRARIES) != source_digest(package, {"torch": "2.14.0"})


def test_nothing_edited_gives_the_same_version(package: Path):
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert source_digest(package, LIBRARIES) == source_digest(package, LIBRARIES)
    assert "+" in code_version()
    assert code_version().startswith(f"{potstill.__version__}+")
