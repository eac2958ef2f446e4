"""Build Potstill's images, check them as they will run, push them, and write the lock file that names them.

python scripts/images.py build
python scripts/images.py check
python scripts/images.py push registry.example.com/shop
"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO

import click

import potstill
from potstill.errors import UserError
from potstill.images import OWN, read_lock, write_lock

HERE = Path(__file__).resolve().parents[1]
RECIPE = HERE / "Dockerfiles" / "Dockerfile"
LOCK = HERE / "images.lock.yaml"
DEBIAN, DEBIAN_BASE = "bookworm", "potstill-base:bookworm"
DEBIAN_PACKAGES = ("python3", "python3-venv", "ca-certificates")
DOCKER = os.environ.get("DOCKER", "docker")
# As a cluster runs a container that may do nothing special.
CONFINED = ("--read-only", "--tmpfs=/tmp", "--user=10001:10001", "--network=none", "--cap-drop=ALL")

built_option = click.option(
    "--lock",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(".potstill", "images.lock.yaml"),
    show_default=True,
    help="Lock file of the images that this machine has built.",
)


@click.group()
def main() -> None:
    """Build Potstill's images, check them, push them, and write the lock file that names them."""


@main.command()
def base() -> None:
    """Make a base from Debian's archive by debootstrap, as root, where no registry is reached."""
    with tempfile.TemporaryDirectory(prefix="potstill-base-") as root:
        run("debootstrap", "--variant=minbase", f"--include={','.join(DEBIAN_PACKAGES)}", DEBIAN, root)
        kept = ("--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*")
        tar = ("tar", "--directory", root, "--numeric-owner", *kept, "--create", ".")
        with subprocess.Popen(tar, stdout=subprocess.PIPE) as packed:  # noqa: S603
            run(DOCKER, "import", "--change", 'CMD ["python3"]', "-", DEBIAN_BASE, stdin=packed.stdout)
        if packed.returncode:
            raise UserError(f"tar failed with exit code {packed.returncode}")
    click.echo(DEBIAN_BASE)


@main.command()
@built_option
@click.option("--base", help="Image to build on; default: the base of images.lock.yaml.")
@click.option("--torch-index", help="Where torch comes from: PyTorch's index of a CUDA version, or a mirror.")
@click.option("--wheels", type=click.Path(exists=True, path_type=Path), help="Folder with a wheel of torch.")
@click.option("--ca", type=click.Path(exists=True, path_type=Path), help="Certificates of a network with its own.")
@click.option("--source", default="unknown", help="Where this source lies, for the image's label.")
def build(
    lock: Path, base: str | None, torch_index: str | None, wheels: Path | None, ca: Path | None, source: str
) -> None:
    """Build the images and write a lock file with their IDs, for use on this machine."""
    base = base or read_lock(LOCK)["base"]
    for wheel in wheels.glob("torch-*.whl") if wheels else ():
        shutil.copy2(wheel, RECIPE.parent / "wheels")
    given = {"BASE": base, "SOURCE": source, "REVISION": revision(), "VERSION": potstill.__version__}
    given |= {"TORCH_INDEX": torch_index} if torch_index else {}
    options = [f"--build-arg={name}={value}" for name, value in given.items()]
    options += [f"--secret=id=ca,src={ca}"] if ca else []
    found = {}
    for name in OWN:
        tag = f"potstill-{name}:{potstill.__version__}"
        # An engine without a bridge builds too, on the machine's own network.
        run(DOCKER, "build", "--network=host", f"--file={RECIPE}", f"--target={name}", f"--tag={tag}", *options, HERE)
        found[name] = told("{{.Id}}", tag)
        click.echo(f"{name}: {int(told('{{.Size}}', tag)) / 1e6:,.0f} MB, {found[name]}")
    write_lock(lock, {**read_lock(LOCK), **found, "base": base if "@" in base else told("{{.Id}}", base)})
    click.echo(f"{lock} names them")


@main.command()
@built_option
def check(lock: Path) -> None:
    """Run each image confined, as a cluster does, and see that all it needs is there and nothing else."""
    images = read_lock(lock)
    for name in OWN:
        with (RECIPE.parent / "check.py").open("rb") as script:
            run(DOCKER, "run", "--rm", "-i", *CONFINED, "--entrypoint=python", images[name], "-", name, stdin=script)
        click.echo(f"{name}: as it should be")


@main.command()
@click.argument("registry")
@built_option
def push(registry: str, lock: Path) -> None:
    """Push the images that this machine has built to REGISTRY, and name them in images.lock.yaml."""
    images = read_lock(lock)
    pushed = {}
    for name in OWN:
        place = f"{registry}/potstill-{name}"
        run(DOCKER, "tag", images[name], f"{place}:{potstill.__version__}")
        run(DOCKER, "push", f"{place}:{potstill.__version__}")
        digests = json.loads(told("{{json .RepoDigests}}", images[name]))
        pushed[name] = next(digest for digest in digests if digest.startswith(f"{place}@"))
    write_lock(LOCK, read_lock(LOCK) | pushed)
    click.echo(f"{LOCK.name} names them; make compile writes the pipelines anew")


def run(*command: str | Path, stdin: IO[bytes] | None = None) -> None:
    """Run a program, whose output is shown; stop when it fails."""
    try:
        subprocess.run(command, stdin=stdin, check=True, env=os.environ | {"DOCKER_BUILDKIT": "1"})  # noqa: S603
    except FileNotFoundError as error:
        raise UserError(f"{command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        raise UserError(f"{command[0]} {command[1]} failed with exit code {error.returncode}") from error


def told(template: str, image: str) -> str:
    """What the engine knows of an image."""
    command = (DOCKER, "image", "inspect", "--format", template, image)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


def revision() -> str:
    """The commit that is checked out, and whether a file of it was changed since; unknown outside of git."""
    command = ("git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=-changed")
    done = subprocess.run(command, cwd=HERE, check=False, capture_output=True, text=True)  # noqa: S603
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"images: {error}") from error
