"""MLflow with accounts, as manifests/ run it: its tables in PostgreSQL, its files in the object store."""

import contextlib
import os
import pwd
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine import CONFINED, docker, server
from machine import free_port, started, until
from object_store import BUCKET, ObjectStore

AUTH = Path(__file__).resolve().parents[1] / "manifests" / "base" / "auth.ini"
DATABASE = "postgresql+psycopg2://"
PATIENCE_S = 60


@dataclass(frozen=True)
class Registry:
    """Where it is and who may ask."""

    uri: str
    user: str
    password: str

    @property
    def environment(self) -> dict[str, str]:
        """As MLflow's client reads it."""
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": self.user,
            "MLFLOW_TRACKING_PASSWORD": self.password,
        }


@contextlib.contextmanager
def registry(address: str, image: str, folder: Path, store: ObjectStore) -> Iterator[Registry]:
    """A running server, on tables that its migration has made."""
    port = free_port()
    account = Registry(f"http://127.0.0.1:{port}", "shop", secrets.token_urlsafe(12))
    with postgres(folder) as database:
        variables = [f"--env={name}={value}" for name, value in database.items()]
        docker(address, "run", "--rm", *CONFINED, *variables, image, "mlflow", "db", "upgrade", DATABASE)
        settings = {
            "MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:{port}",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_AUTH_CONFIG_PATH": "/etc/mlflow/auth.ini",
            "MLFLOW_AUTH_ADMIN_USERNAME": account.user,
            "MLFLOW_AUTH_ADMIN_PASSWORD": account.password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(16),
        }
        command = ["mlflow", "server", "--app-name=basic-auth", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
        command += [f"--backend-store-uri={DATABASE}", f"--artifacts-destination=s3://{BUCKET}/mlflow"]
        mount = f"--volume={AUTH}:/etc/mlflow/auth.ini:ro"
        with server(address, image, command, port, database | store.environment | settings, mount):
            yield account


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[dict[str, str]]:
    """A database with a password; how libpq finds it."""
    programs, port, password = _programs(), free_port(), secrets.token_urlsafe(12)
    # PostgreSQL does not run as root.
    owner = pwd.getpwnam("postgres")
    own = folder / "postgres"
    own.mkdir()
    (own / "password").write_text(password)
    for path in (own, own / "password"):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    identity = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": [], "cwd": own}
    make = [programs / "initdb", "--auth=scram-sha-256", "--username=mlflow", "--pwfile=password", "data"]
    subprocess.run(make, check=True, capture_output=True, **identity)
    found = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "mlflow", "PGPASSWORD": password}
    found["PGDATABASE"] = "postgres"
    listen = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", f"unix_socket_directories={own}"]
    log = folder / "postgres.log"
    with started([programs / "postgres", "-D", "data", *listen], log, **identity):
        asked = os.environ | found
        ready = [programs / "pg_isready", "--quiet"]
        until("PostgreSQL is ready", lambda: not subprocess.run(ready, env=asked).returncode, PATIENCE_S, log)
        yield found


def _programs() -> Path:
    """Debian keeps each version's programs in a folder of its own."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
