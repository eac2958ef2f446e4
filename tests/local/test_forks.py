"""Steps that are forks do, say and fail as kfp's own processes do."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp import dsl, local
from kfp.local.subprocess_task_handler import SubprocessTaskHandler

from potstill.components.images import CORE, TRAIN
from potstill.local.forks import forks


@dsl.component(base_image=CORE, install_kfp_package=False)
def light() -> int:
    """A step without torch."""
    import os

    return os.getppid()


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def heavy(word: str) -> str:
    """A step with torch."""
    import os
    import sys

    print(f"said {word}")
    print("und übrigens", file=sys.stderr)
    brought = {"torch", "transformers", "sklearn"} <= set(sys.modules)
    return f"{word} {os.environ['SHOP']} {brought} {os.getppid()}"


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def failing(how: str) -> None:
    """A step that fails."""
    import os
    import signal
    import sys

    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        sys.exit(3)
    raise ValueError("the shelf is empty")


@pytest.fixture
def forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SHOP", "lamps")
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path), enable_caching=False)
    with forks():
        yield


@pytest.mark.usefixtures("forked")
def test_the_first_heavy_step_starts_what_all_later_ones_are_forked_from(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    before = light().output
    first = heavy(word="one").output.split()
    monkeypatch.setenv("SHOP", "books")
    second = heavy(word="two").output.split()
    assert (first[:3], second[:3]) == (["one", "lamps", "True"], ["two", "books", "True"])
    assert first[3] == second[3] == str(light().output)
    assert before != int(first[3])
    out = capfd.readouterr().out
    assert out.index("said one") < out.index("said two")
    assert out.count("und übrigens") == 2


@pytest.mark.parametrize("how", ["error", "exit", "killed"])
@pytest.mark.usefixtures("forked")
def test_a_step_that_fails_in_any_way_is_a_failure(how: str, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(RuntimeError, match="failing"):
        failing(how=how)
    assert ("ValueError: the shelf is empty" in capfd.readouterr().out) == (how == "error")
    assert heavy(word="again").output.startswith("again")


@pytest.mark.usefixtures("forked")
def test_a_fork_hears_an_interruption_as_its_parent_does():
    @dsl.component(base_image=TRAIN, install_kfp_package=False)
    def hearing() -> bool:
        import signal

        return signal.getsignal(signal.SIGINT) is signal.default_int_handler

    assert hearing().output == (signal.getsignal(signal.SIGINT) is signal.default_int_handler)


def test_kfps_own_way_comes_back():
    own = SubprocessTaskHandler.run
    with forks():
        assert SubprocessTaskHandler.run is not own
    assert SubprocessTaskHandler.run is own
