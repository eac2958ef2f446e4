"""A Kubeflow Pipelines backend, by kfp's generated client of its v2beta1 API.

Every call has a time limit, and every failure is one line. Reads are tried again. What is to be made is looked up by
its name before another try, so that nothing is made twice.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kfp_server_api
import urllib3
from kfp import client as kfp_client

from potstill.errors import UserError

# Of kfp's own command line and client.
TOKEN_VARIABLE, UI_VARIABLE = "KFP_EXISTING_TOKEN", "KF_PIPELINES_UI_ENDPOINT"
CONNECT_S, ANSWER_S = 5, 60
PAGE_ROWS = 100
# Waits before something whose making is unsure is looked for, in seconds.
PAUSES_S = (1.0, 4.0)
# A wrong login or a proxy may answer with a whole page.
MESSAGE_CHARACTERS = 300


class BackendError(UserError):
    """The backend refuses, or can't be understood."""


class UnsureError(BackendError):
    """No answer, or a server's error: what was asked for may have been done or not."""


@dataclass(frozen=True)
class Backend:
    """A backend's services.

    Attributes:
        namespace: where a multi-user backend looks; none on a single-user one.
        page: address of its pages, for links.
    """

    namespace: str | None
    page: str
    pipelines: Any
    uploads: Any
    experiments: Any
    runs: Any
    recurring_runs: Any

    def link(self, kind: str, identity: str) -> str:
        """The page of a run (`runs`) or a recurring run (`recurringrun`)."""
        return f"{self.page}/#/{kind}/details/{identity}"


class _Client(kfp_server_api.ApiClient):
    """kfp's client, which waits for no answer for ever and tells what went wrong in a line."""

    def call_api(self, resource_path: str, method: str, *parts: Any, **more: Any) -> Any:
        """One request and its answer."""
        more["_request_timeout"] = (CONNECT_S, ANSWER_S)
        try:
            return super().call_api(resource_path, method, *parts, **more)
        except kfp_server_api.ApiException as error:
            raise self._refusal(error) from error
        except urllib3.exceptions.HTTPError as error:
            raise UnsureError(f"{self.configuration.host}: no answer: {_why(error)}") from error

    def deserialize(self, response: Any, response_type: Any) -> Any:
        """An answer as an object; kfp's own client reads a page as an empty list."""
        host, kind = self.configuration.host, response.getheader("content-type") or "no type"
        if not response.data.lstrip().startswith("{"):
            raise BackendError(f"{host}: answers with {kind}, no JSON object: a login page? Set {TOKEN_VARIABLE}")
        try:
            return super().deserialize(response, response_type)
        except (kfp_server_api.ApiException, AttributeError, TypeError, ValueError) as error:
            raise BackendError(f"{host}: its answer is none of the v2beta1 API") from error

    def _refusal(self, error: Any) -> BackendError:
        host, status = self.configuration.host, error.status
        if status == 401 and self.configuration.api_key:
            return BackendError(f"{host}: does not take the token (401); it may have expired")
        if status == 401:
            return BackendError(f"{host}: asks who you are (401); set {TOKEN_VARIABLE} to a bearer token")
        told = self._told(error.body)
        if status == 403:
            return BackendError(f"{host}: not allowed (403){told}; is the namespace right (--namespace)?")
        if status == 404 and not told:
            return BackendError(f"{host}: has no Kubeflow Pipelines API (404); is the address right?")
        # Two that make one thing at once: one of them finds it when it looks again.
        kind = UnsureError if status >= 500 or status == 409 else BackendError
        return kind(f"{host}: {'failed' if status >= 500 else 'refuses'} ({status}){told}")

    def _told(self, body: str | None) -> str:
        """What the API says of an error, without any credential."""
        try:
            answer = json.loads(body or "")
            message = str(answer.get("message") or answer.get("error") or "")
        except (AttributeError, ValueError):
            return ""
        for secret in self.configuration.api_key.values():
            message = message.replace(secret, "…")
        line = " ".join(message.split())
        return f": {line[:MESSAGE_CHARACTERS]}" if line else ""


def connect(host: str, namespace: str | None) -> Backend:
    """A backend's services; nothing is asked of it yet.

    The bearer token is KFP_EXISTING_TOKEN's, or else the service account's that Kubernetes mounts for the backend.
    Certificates are certifi's, or those that SSL_CERT_FILE names.

    Raises:
        UserError: the host is no address, or the token can't be read.
    """
    address = (host if "://" in host else f"https://{host}").rstrip("/")
    try:
        parts = urlsplit(address)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or parts.username or parts.query or parts.fragment:
        raise UserError("--host: write it as https://kubeflow.example.com/pipeline, without user, query or #")
    configuration = kfp_server_api.Configuration(host=address)
    configuration.ssl_ca_cert = os.environ.get("SSL_CERT_FILE")
    configuration.retries = urllib3.Retry(
        3,
        backoff_factor=0.5,
        allowed_methods=["GET"],
        status_forcelist=[500, 502, 503, 504],
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    _identify(configuration)
    api = _Client(configuration)
    return Backend(
        namespace or None,
        os.environ.get(UI_VARIABLE, address).rstrip("/"),
        kfp_server_api.PipelineServiceApi(api),
        kfp_server_api.PipelineUploadServiceApi(api),
        kfp_server_api.ExperimentServiceApi(api),
        kfp_server_api.RunServiceApi(api),
        kfp_server_api.RecurringRunServiceApi(api),
    )


def answers(backend: Backend) -> str:
    """Ask a backend for its pipelines, and tell how many it has.

    Raises:
        BackendError: it refuses, or gives no answer.
    """
    told = backend.pipelines.pipeline_service_list_pipelines(namespace=backend.namespace, page_size=1)
    return f"{backend.page}: answers; pipelines: {told.total_size or 0:,}"


def _identify(configuration: Any) -> None:
    """Give the client a token, if there is one; a mounted one is read anew for each request, because it is renewed."""
    token, named = os.environ.get(TOKEN_VARIABLE, "").strip(), os.environ.get(kfp_client.KF_PIPELINES_SA_TOKEN_ENV)
    mounted = Path(named or kfp_client.KF_PIPELINES_SA_TOKEN_PATH)
    if token:
        if not token.isascii() or not token.isprintable() or " " in token:
            raise UserError(f"{TOKEN_VARIABLE}: is no token: it holds a space or what is no ASCII character")
        configuration.api_key["authorization"] = token
    elif named or mounted.is_file():
        if not (mounted.is_file() and os.access(mounted, os.R_OK)):
            raise UserError(f"{mounted}: can't read the token there ({kfp_client.KF_PIPELINES_SA_TOKEN_ENV})")
        configuration.refresh_api_key_hook = kfp_client.ServiceAccountTokenVolumeCredentials().refresh_api_key_hook
        configuration.refresh_api_key_hook(configuration)
    configuration.api_key_prefix["authorization"] = "Bearer"


def _why(error: urllib3.exceptions.HTTPError) -> str:
    """What lies behind a request without an answer."""
    cause = getattr(error, "reason", None) or error
    if isinstance(cause, urllib3.exceptions.SSLError):
        return "its certificate is not trusted; SSL_CERT_FILE can name your authority's certificates"
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        return "no machine has that name"
    if isinstance(cause, urllib3.exceptions.NewConnectionError):
        return str(cause).rpartition("] ")[2].lower()
    if isinstance(cause, urllib3.exceptions.TimeoutError):
        return "it takes too long"
    return "the connection broke off"


def pages(ask: Callable[..., Any], field: str, **by: Any) -> Iterator[Any]:
    """Everything that a list holds, page after page."""
    token = ""
    while True:
        answer = ask(page_token=token, page_size=PAGE_ROWS, **by)
        yield from getattr(answer, field) or []
        token = answer.next_page_token
        if not token:
            return


def named(ask: Callable[..., Any], field: str, key: str, name: str, **by: Any) -> Any | None:
    """The first thing of a list with that very name; none if there is none."""
    predicate = {"operation": "EQUALS", "key": key, "stringValue": name}
    found = pages(ask, field, filter=json.dumps({"predicates": [predicate]}), **by)
    # The backend's database takes upper and lower case for equal.
    return next((thing for thing in found if getattr(thing, key) == name), None)


def made_once(find: Callable[[], Any | None], make: Callable[[], Any]) -> Any:
    """What `find` finds, or else what `make` makes; where it is unsure whether it did, `find` comes before another try.

    Raises:
        BackendError: the backend refuses, or it stays unsure.
    """
    last: UnsureError | None = None
    for pause_s in (*PAUSES_S, None):
        if (found := find()) is not None:
            return found
        if pause_s is None:
            break
        try:
            return make()
        except UnsureError as error:
            last = error
        time.sleep(pause_s)
    raise BackendError(f"{last}; it is not there after {len(PAUSES_S)} tries") from last


def experiment_named(backend: Backend, name: str) -> Any | None:
    """The experiment of that name; none if there is none."""
    ask, by = backend.experiments.experiment_service_list_experiments, {"namespace": backend.namespace}
    return named(ask, "experiments", "display_name", name, **by)


def known_experiment(backend: Backend, name: str) -> Any:
    """The experiment of that name.

    Raises:
        UserError: there is none.
    """
    if (found := experiment_named(backend, name)) is None:
        raise UserError(f"--experiment {name}: there is no such experiment")
    return found


def made_experiment(backend: Backend, name: str) -> Any:
    """The experiment of that name, made if there is none."""
    wanted = kfp_server_api.V2beta1Experiment(display_name=name, namespace=backend.namespace)
    return made_once(
        lambda: experiment_named(backend, name),
        lambda: backend.experiments.experiment_service_create_experiment(experiment=wanted),
    )
