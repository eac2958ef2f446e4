"""The rules of the house: who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "potstill"
# Top to bottom: each imports only from below. Modules on one line don't import each other.
LAYERS = [
    ["cli"],
    ["tune", "commands", "serve"],
    ["local", "cluster"],
    ["follow"],
    ["pipelines"],
    ["components"],
    ["promotion", "stream", "doctor"],
    ["registry"],
    ["moves"],
    ["tracking"],
    ["workshop"],
    ["steps"],
    ["plan", "drift"],
    ["evaluate"],
    ["watch", "scoring"],
    ["compress"],
    ["learn"],
    ["data"],
    ["code"],
    ["machine"],
    ["recipe"],
    ["sections"],
    ["edge", "hub", "images", "metrics"],
    ["shelves"],
    ["bucket"],
    ["store", "outcomes", "inputs", "progress"],
    ["errors"],
]
HEIGHT = {name: len(LAYERS) - level for level, names in enumerate(LAYERS) for name in names}
MODULES = [*SOURCE.rglob("*.py")] + [
    p for link in ("components", "pipelines") for p in (SOURCE / link).resolve().rglob("*.py")
]


def part_of(path: Path) -> str:
    relative = path.relative_to(SOURCE if path.is_relative_to(SOURCE) else SOURCE.parents[1])
    return relative.parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def of(*parts: str) -> list[Path]:
    chosen = [path for path in MODULES if part_of(path) in parts]
    assert chosen, f"no module in {parts}"
    return chosen


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE.parents[1])))
def test_each_module_imports_only_from_below(path: Path):
    part = part_of(path)
    if part == "__init__":
        assert not any(name.startswith("potstill.") for name in imports(path))
        return
    inner = {name.split(".")[1] for name in imports(path) if name.startswith("potstill.")} - {part}
    wrong = sorted(name for name in inner if name in HEIGHT and HEIGHT[name] >= HEIGHT[part])
    assert not wrong, f"{part} must not import {wrong}"
    assert part in HEIGHT, f"{part} has no place in the layers"


@pytest.mark.parametrize(
    "path", of("learn", "compress", "evaluate", "plan", "drift", "data", "steps"), ids=lambda p: p.stem
)
def test_the_library_knows_no_pipeline_tracker_or_bucket(path: Path):
    assert not roots(path) & {"kfp", "mlflow", "boto3"}


@pytest.mark.parametrize("path", of("pipelines"), ids=lambda p: p.stem)
def test_pipelines_know_no_torch(path: Path):
    assert not roots(path) & {"torch", "transformers"}


TORCHLESS = (
    "edge",
    "promotion",
    "registry",
    "moves",
    "tracking",
    "cli",
    "serve",
    "drift",
    "cluster",
    "doctor",
    "bucket",
)


@pytest.mark.parametrize("path", of(*TORCHLESS), ids=lambda p: p.stem)
def test_what_serves_knows_no_torch(path: Path):
    assert not roots(path) & {"torch", "transformers"}


@pytest.mark.parametrize(
    "path", of("steps", "plan", "drift", "evaluate", "compress", "learn", "data"), ids=lambda p: p.stem
)
def test_a_step_reads_no_environment(path: Path):
    names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert not names & {"environ", "getenv", "environb"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE.parents[1])))
def test_no_pickle_is_read_or_written(path: Path):
    assert not roots(path) & {"pickle", "joblib", "cloudpickle", "dill", "shelve"}
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    assert not calls & {"torch.load", "torch.save", "np.load", "pd.read_pickle"}


WITHOUT_TORCH = ["edge", "cli", "registry", "serve.server", "pipelines.distill", "drift.check"]


@pytest.mark.parametrize("module", [f"potstill.{name}" for name in WITHOUT_TORCH])
def test_importing_it_loads_no_torch(module: str):
    code = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
