"""A Kubeflow Pipelines backend for tests, as a process of its own, with a recipe and schedules for it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from asking import Backend, served, write_recipe

SCHEDULES = """\
experiment: nightly
schedules:
  reviews-nightly: {recipe: reviews.yaml, cron: "0 30 2 * * *"}
"""


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with served() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def backend(server: str, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """A backend that knows nothing yet; no pause lasts longer than a test should."""
    for variable in ("KF_PIPELINES_ENDPOINT", "KFP_NAMESPACE", "KFP_EXISTING_TOKEN", "KF_PIPELINES_SA_TOKEN_PATH"):
        monkeypatch.delenv(variable, raising=False)
    real = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: real(min(seconds, 0.01)))
    found = Backend(server)
    found.control("reset")
    return found


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "reviews.yaml")


@pytest.fixture
def schedules(recipe: Path) -> Path:
    path = recipe.with_name("schedules.yaml")
    path.write_text(SCHEDULES)
    return path
