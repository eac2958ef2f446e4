"""What must fail fails, and says why."""

from pathlib import Path

import pytest
from kfp import dsl, local

from conftest import Shop
from engine import images
from object_store import BUCKET
from potstill.images import read_lock
from potstill.local.containers import confined, containers
from potstill.pipelines.package import in_images

# kfp's own way took 2 of 15 failed containers for good ones.
TIMES = 15


@dsl.container_component
def canary(code: int):
    return dsl.ContainerSpec(image="core", command=["sh", "-c"], args=[f"echo sang; exit {code}"])


def sing(code: int, shop: Shop, folder: Path) -> None:
    @dsl.pipeline(name="canary")
    def pipeline():
        canary(code=code).set_caching_options(False)

    local.init(confined("canary", shop.environment), pipeline_root=str(folder), workspace_root=str(folder))
    with containers(folder):
        in_images(pipeline, read_lock(shop.lock))()


def test_images_do_with_what_a_cluster_grants(shop: Shop):
    images(shop.address, "check", "--lock", str(shop.lock))


def test_a_failing_container_always_fails_the_pipeline(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("DOCKER_HOST", shop.address)
    sing(0, shop, tmp_path)
    assert "sang" in capsys.readouterr().out
    for code in range(1, TIMES + 1):
        with pytest.raises(RuntimeError, match="FAILURE"):
            sing(code, shop, tmp_path)
        assert "sang" in capsys.readouterr().out
    assert not shop.containers()


def test_a_wrong_secret_of_the_store_is_refused_before_any_work(shop: Shop):
    wrong = "not-the-secret-at-all"
    done = shop.potstill(*shop.run_words(), AWS_SECRET_ACCESS_KEY=wrong)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"s3://{BUCKET}/rows/*.parquet: the secret key is wrong" in done.stderr
    assert not done.stdout
    for told in (done.stdout, done.stderr, shop.log()):
        assert wrong not in told
        assert shop.store.secret not in told
        assert "Traceback" not in told


def test_a_wrong_password_of_mlflow_is_refused_before_any_work(shop: Shop):
    done = shop.potstill(*shop.run_words(), MLFLOW_TRACKING_PASSWORD="not-the-password")
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"refuses user {shop.registry.user}" in done.stderr
    assert "not-the-password" not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
