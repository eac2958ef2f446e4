"""What commands share: options, how mistakes are told, where MLflow is, what to type next."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from potstill.errors import UserError
from potstill.recipe import load_recipe

if TYPE_CHECKING:
    from potstill.recipe import Recipe

EXIT_BAD_INPUT = 2
LOG_WIDTH = 120
# Wider than any list: a name or a link that is to be pasted must not be cut or folded.
UNCUT_WIDTH = 500


class Commands(click.Group):
    """Commands that tell a user's mistake in one line and exit with code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            message = str(error)
        except ModuleNotFoundError as error:
            extras = "train,pipeline,tune,s3,serve,ui"
            message = f"{error.name} is not installed; this command needs pip install 'potstill[{extras}]'"
        click.echo(f"potstill: {message}", err=True)
        raise click.exceptions.Exit(EXIT_BAD_INPUT)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def root_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--root DIR`, where runs, MLflow's database and the cache lie."""
    return click.option(
        "--root",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(".potstill"),
        show_default=True,
        help="Folder of runs, and of MLflow where MLFLOW_TRACKING_URI is not set.",
    )(command)


def set_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--set section.key=value`, repeatable."""
    return click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Replace a setting of the recipe; repeatable."
    )(command)


def cluster_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--cluster FILE`, how the steps run on a cluster."""
    return click.option(
        "--cluster",
        type=click.Path(dir_okay=False, path_type=Path),
        help="How steps run on the cluster: resources, retries, secrets; default: pipelines/cluster.yaml of Potstill.",
    )(command)


def images_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--images LOCK`, which image is which."""
    return click.option(
        "--images",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Lock file that names each image by its digest; default: images.lock.yaml of this installation.",
    )(command)


def backend_options(command: Callable[..., None], *, required: bool = True) -> Callable[..., None]:
    """`--host URL` and `--namespace NAME`. No token: others can see a command line."""
    host = click.option(
        "--host",
        required=required,
        envvar="KF_PIPELINES_ENDPOINT",
        show_envvar=True,
        help="Address of the backend; the token is KFP_EXISTING_TOKEN's.",
    )
    namespace = click.option(
        "--namespace", envvar="KFP_NAMESPACE", show_envvar=True, help="Where a multi-user backend looks."
    )
    return host(namespace(command))


recipe_argument = click.argument("recipe", type=click.Path(path_type=Path))


def checked(recipe: Path, overrides: tuple[str, ...], *, has_form: bool = True) -> "Recipe":
    """The recipe, whose rows and encoders are where it says; its student's form counts, unless it is to be found."""
    from potstill.data.read import check_source
    from potstill.hub import check_encoder, check_layers

    loaded = load_recipe(recipe, overrides)
    check_source(loaded.data, loaded.tasks)
    for number, member in enumerate(loaded.teacher.members):
        check_encoder(member.encoder, f"teacher.others.{number - 1}.encoder" if number else "teacher.encoder")
    if loaded.student.encoder is not None:
        check_encoder(loaded.student.encoder, "student.encoder")
    has_layers = loaded.student.has_teachers_layers or isinstance(loaded.student.keep, list)
    if has_layers and has_form and loaded.plan is None:
        check_layers(loaded.student.encoder or loaded.teacher.encoder, loaded.student.chosen)
    return loaded


def track(root: Path) -> Path | None:
    """Let MLflow use the root's own database, unless the environment names a server; return where its files go."""
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--root {root}: can't write there: {error.strerror}") from error
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root.absolute() / 'mlflow.db'}"
    return root / "mlflow-artifacts"


def console_here() -> Console:
    """A console that keeps to this terminal, or to this log, while the run's output is followed."""
    width = None if sys.stdout.isatty() else LOG_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False)


def root_of(root: Path) -> str:
    """What to type behind a command so that it finds this root."""
    return "" if root == Path(".potstill") else f" --root {root}"


def typed() -> str:
    """The command as it was typed, so that the next one can be pasted."""
    path = Path(sys.argv[0])
    return path.name if shutil.which(path.name) == str(path) else os.path.relpath(path)
