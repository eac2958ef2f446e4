import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from potstill.errors import UserError
from potstill.images import NAMES, OWN, read_lock, write_lock
from potstill.pipelines.package import compile_package
from potstill.pipelines.pods import load_cluster
from potstill.recipe import load_recipe

HERE = Path(__file__).parents[1]
DOCKERFILE = (HERE / "Dockerfiles/Dockerfile").read_text()
EXTRAS = {
    "core": ["pipeline", "s3"],
    "train": ["train", "pipeline", "s3"],
    "serve": ["serve"],
    "mlflow": ["ui", "s3", "postgres"],
}
IMAGES = {name: f"registry.example.com:5000/shop/{name}@sha256:{str(i) * 64}" for i, name in enumerate(NAMES)}


def lock(folder: Path, **changed: object) -> Path:
    path = folder / "images.lock.yaml"
    path.write_text(yaml.safe_dump({name: image for name, image in (IMAGES | changed).items() if image is not None}))
    return path


def test_what_is_written_is_read_again(tmp_path: Path):
    write_lock(tmp_path / "new" / "lock.yaml", IMAGES)
    assert read_lock(tmp_path / "new" / "lock.yaml") == IMAGES


def test_an_image_of_one_engine_is_named_by_its_id(tmp_path: Path):
    own = "sha256:" + "e" * 64
    assert read_lock(lock(tmp_path, train=own))["train"] == own


@pytest.mark.parametrize(
    "image",
    [
        "potstill-core:0.1.0",
        "potstill-core",
        "registry.example.com:5000/potstill-core:latest",
        f"potstill-core:0.1.0@sha256:{'a' * 64}",
        f"potstill-core@sha256:{'a' * 63}",
        f"potstill-core@sha256:{'a' * 64} ",
        f"potstill-core@md5:{'a' * 32}",
        ["potstill-core"],
    ],
)
def test_what_is_not_named_by_its_digest_alone_is_refused(tmp_path: Path, image: object):
    with pytest.raises(UserError, match=r"images\.lock\.yaml: core: .*NAME@sha256:…, for a tag can move"):
        read_lock(lock(tmp_path, core=image))


def test_an_image_that_nobody_uses_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="cores: no such image; there are core, train, serve, mlflow, base, "):
        read_lock(lock(tmp_path, cores=IMAGES["core"]))


def test_a_missing_image_a_missing_file_and_a_list_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="train is missing"):
        read_lock(lock(tmp_path, train=None))
    with pytest.raises(UserError, match="can't read which images to use: No such file"):
        read_lock(tmp_path / "nothing.yaml")
    (tmp_path / "list.yaml").write_text("- core\n")
    with pytest.raises(UserError, match="expected an image a line"):
        read_lock(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("core: [\n")
    with pytest.raises(UserError, match="no YAML"):
        read_lock(tmp_path / "broken.yaml")


def test_a_pipeline_takes_its_images_from_the_lock(tmp_path: Path):
    compile_package(
        load_recipe(HERE / "recipes/review-sentiment.yaml"), tmp_path / "package.yaml", load_cluster(), lock(tmp_path)
    )
    executors = next(yaml.safe_load_all((tmp_path / "package.yaml").read_text()))["deploymentSpec"]["executors"]
    found = {name.removeprefix("exec-"): executor["container"]["image"] for name, executor in executors.items()}
    without_torch = {"doctor", "ingest", "champion", "register", "close"}
    assert found == {step: IMAGES["core" if step in without_torch else "train"] for step in found}
    assert without_torch < set(found)


def test_no_other_file_names_an_image():
    found = subprocess.run(
        ["git", "grep", "--files-with-matches", "-E", "@sha256:[0-9a-f]{64}", "--", ":!tests", ":!pipelines/compiled"],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["images.lock.yaml"]
    compiled = "\n".join(path.read_text() for path in (HERE / "pipelines/compiled").glob("*.yaml"))
    assert set(re.findall(r"\bimage: (\S+)", compiled)) == {read_lock()[name] for name in ("core", "train")}


def test_every_image_stands_on_the_base_and_runs_as_a_numbered_user():
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert len(stages) == DOCKERFILE.count("\nFROM ")
    known = {name for _, name in stages}
    assert all(source == "${BASE}" or source in known for source, _ in stages)
    assert re.search(r"^ARG BASE$", DOCKERFILE, re.MULTILINE), "the base's default belongs in images.lock.yaml"
    assert {name: source for source, name in stages if name in OWN} == dict.fromkeys(OWN, "runtime")
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]


def required(extras: list[str], folder: Path) -> dict[str, bool]:
    """All that some extras bring, by name, and whether it is pinned where it is asked for."""
    for file in ("pyproject.toml", "Dockerfiles/requirements.py"):
        shutil.copy(HERE / file, folder)
    command = [sys.executable, str(folder / "requirements.py"), *extras]
    waiting = [Requirement(line) for line in subprocess.check_output(command, text=True).splitlines()]
    found: dict[str, bool] = {}
    asked = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        found[name] = found.get(name, False) or [part.operator for part in requirement.specifier] == ["=="]
        if str(requirement) in asked:
            continue
        asked.add(str(requirement))
        wanted = ("", *requirement.extras)
        for needed in map(Requirement, distribution(name).requires or []):
            if not needed.marker or any(needed.marker.evaluate({"extra": extra}) for extra in wanted):
                waiting.append(needed)
    return found


@pytest.mark.parametrize("image", OWN)
def test_all_that_an_image_installs_is_pinned(image: str, tmp_path: Path):
    assert f"/requirements.py {' '.join(EXTRAS[image])} > /{image}.txt" in DOCKERFILE
    constraints = {canonicalize_name(line.split("==")[0]) for line in (HERE / "constraints.txt").read_text().split()}
    found = required(EXTRAS[image], tmp_path)
    # torch asks for setuptools, to compile with; the image takes it away again.
    assert {name for name, pinned in found.items() if not pinned} - constraints - {"setuptools"} == set()
    assert ("torch" in found) == (image == "train")


def test_a_wheel_holds_everything_and_opens_outside_the_repository(tmp_path: Path):
    source, wheel = tmp_path / "source", tmp_path / "wheel"
    leave_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("src", "components", "pipelines"):
        shutil.copytree(HERE / folder, source / folder, symlinks=True, ignore=leave_out)
    for file in ("pyproject.toml", "README.md", "LICENSE", "images.lock.yaml"):
        shutil.copy(HERE / file, source)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(wheel)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (made,) = wheel.glob("*.whl")
    with zipfile.ZipFile(made) as archive:
        held = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    package = HERE / "src/potstill"
    files = [p for link in ("", "components", "pipelines") for p in (package / link).resolve().rglob("*")]
    code = {p for p in files if p.suffix in {".py", ".html"}}
    roots = (package, HERE)
    expected = {
        (Path("potstill") / p.relative_to(next(r for r in roots if p.is_relative_to(r)))).as_posix() for p in code
    }
    assert expected <= held
    show = "from potstill.images import LOCK, read_lock; read_lock(); print(LOCK)"
    command = [sys.executable, "-P", "-c", show]
    environment = {"PYTHONPATH": str(tmp_path / "installed"), "PATH": ""}
    told = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    assert Path(told.strip()) == tmp_path / "installed/potstill/images.lock.yaml"
