"""A server that speaks the v2beta1 REST API of Kubeflow Pipelines as kfp_server_api's client defines it; for tests.

It keeps everything in memory, runs nothing, and is stricter than the real backend: a field or query that the client's
models don't have, a value of another type, an output field in a request or a filter that changes between pages is
refused, and so is a parameter that the pipeline doesn't have.
`/control/…` is the tests' own: what was asked so far, faults to come, and how a run goes on.
"""

import argparse
import datetime
import email
import itertools
import json
import re
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import kfp_server_api.models
import yaml

# Fields that a request may hold, of those that the models have; the others are for answers.
INPUTS = {
    "V2beta1Pipeline": {"name", "display_name", "description", "namespace", "tags"},
    "V2beta1Experiment": {"display_name", "description", "namespace"},
    "V2beta1Run": {
        *("experiment_id", "display_name", "description", "pipeline_version_reference", "runtime_config"),
        "service_account",
    },
    "V2beta1RecurringRun": {
        *("experiment_id", "display_name", "description", "pipeline_version_reference", "runtime_config"),
        *("service_account", "max_concurrency", "trigger", "mode", "no_catchup", "namespace"),
    },
}
PAGING = {"page_token", "page_size", "sort_by", "filter"}
# Of backend/src/apiserver/model/*.go: by what each list can be filtered and sorted.
COLUMNS = {
    "pipelines": {"pipeline_id", "name", "display_name", "created_at", "description", "namespace"},
    "pipeline_versions": {"pipeline_version_id", "name", "display_name", "created_at", "description"},
    "experiments": {"experiment_id", "display_name", "created_at", "description", "namespace"},
    "runs": {"run_id", "display_name", "created_at", "finished_at", "state", "storage_state", "experiment_id"},
    "recurring_runs": {"recurring_run_id", "display_name", "created_at", "updated_at", "description"},
}
TYPES: dict[str, Callable[[Any], bool]] = {
    "STRING": lambda value: isinstance(value, str),
    "NUMBER_INTEGER": lambda value: type(value) in (int, float) and value == int(value),
    "NUMBER_DOUBLE": lambda value: type(value) in (int, float),
    "BOOLEAN": lambda value: isinstance(value, bool),
    "STRUCT": lambda value: isinstance(value, dict),
    "LIST": lambda value: isinstance(value, list),
}


class RefusedError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check(value: Any, kind: str, where: str) -> None:
    """Refuse a value that isn't what an OpenAPI type says."""
    plain = {"str": str, "int": int, "bool": bool, "float": (int, float), "datetime": str}
    if kind in plain:
        if not isinstance(value, plain[kind]) or (kind == "int" and isinstance(value, bool)):
            raise RefusedError(400, f"{where}: {value!r} is no {kind}")
    elif kind.startswith("dict("):
        inner = kind.removeprefix("dict(str, ").removesuffix(")")
        for key, one in value.items():
            check(one, inner, f"{where}.{key}")
    elif kind.startswith("list["):
        for number, one in enumerate(value):
            check(one, kind[5:-1], f"{where}.{number}")
    elif kind != "object":
        model = getattr(kfp_server_api.models, kind)
        if not model.openapi_types:
            if value not in model.allowable_values:
                raise RefusedError(400, f"{where}: {value!r} is none of {model.allowable_values}")
            return
        if not isinstance(value, dict):
            raise RefusedError(400, f"{where}: is no {kind}")
        types = {model.attribute_map[name]: inner for name, inner in model.openapi_types.items()}
        for key, one in value.items():
            if key not in types or key not in INPUTS.get(kind, types):
                raise RefusedError(400, f"{where}: unknown field {key!r}")
            check(one, types[key], f"{where}.{key}")


class State:
    """Everything that the backend knows."""

    def __init__(self) -> None:
        self.things: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in COLUMNS}
        self.log: list[str] = []
        self.faults: list[dict[str, Any]] = []
        self._ids, self._seconds = itertools.count(1), itertools.count(0)

    def add(self, kind: str, key: str, thing: dict[str, Any]) -> dict[str, Any]:
        """Keep a thing under a new identity; each is a second younger than the one before."""
        moment = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=next(self._seconds))
        made = {key: f"{kind}-{next(self._ids)}", "created_at": f"{moment:%Y-%m-%dT%H:%M:%SZ}", **thing}
        self.things[kind][made[key]] = made
        return made

    def get(self, kind: str, identity: str) -> dict[str, Any]:
        if identity not in self.things[kind]:
            raise RefusedError(404, f"{kind} {identity} not found")
        return self.things[kind][identity]

    def listed(
        self, kind: str, query: dict[str, str], belongs: Callable[[dict[str, Any]], bool]
    ) -> tuple[list[Any], str]:
        """One page, and the token of the next."""
        order = {name: query.get(name, "") for name in ("sort_by", "filter")}
        start = 0
        if query.get("page_token"):
            told = json.loads(query["page_token"])
            start = told.pop("start")
            if told != order:
                raise RefusedError(400, "sort_by or filter differ from the first page's")
        found = [thing for thing in self.things[kind].values() if belongs(thing) and self._fits(kind, thing, order)]
        column, _, way = (order["sort_by"] or "created_at").partition(" ")
        if column not in COLUMNS[kind] or way not in ("", "asc", "desc"):
            raise RefusedError(400, f"can't sort {kind} by {order['sort_by']!r}")
        found.sort(key=lambda thing: thing.get(column, ""), reverse=way == "desc")
        size = int(query.get("page_size") or 20)
        if not 1 <= size <= 200:
            raise RefusedError(400, f"page_size {size} is not 1 to 200")
        more = start + size < len(found)
        return found[start : start + size], json.dumps({"start": start + size, **order}) if more else ""

    def _fits(self, kind: str, thing: dict[str, Any], order: dict[str, str]) -> bool:
        predicates = json.loads(order["filter"] or "{}").get("predicates", [])
        for predicate in predicates:
            if set(predicate) != {"operation", "key", "stringValue"} or predicate["operation"] != "EQUALS":
                raise RefusedError(400, f"unknown filter {predicate}")
            if predicate["key"] not in COLUMNS[kind]:
                raise RefusedError(400, f"can't filter {kind} by {predicate['key']!r}")
        # As a database does whose text takes upper and lower case for equal.
        return all(thing.get(one["key"], "").lower() == one["stringValue"].lower() for one in predicates)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    state = State()
    lock = threading.Lock()
    token = ""
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        parts = urlsplit(self.path)
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.body = self.rfile.read(int(self.headers.get("content-length") or 0))
        with self.lock:
            if parts.path.startswith("/control/"):
                self._send(200, json.dumps(self._control(parts.path.removeprefix("/control/"))))
                return
            self.state.log.append(f"{method} {parts.path}")
            fault = self._fault(method, parts.path)
            if fault and not fault.get("after"):
                self._fail(fault)
                return
            status, answer = self._called(method, parts.path)
            if fault:
                self._fail(fault)
            else:
                self._send(status, json.dumps(answer))

    def _called(self, method: str, path: str) -> tuple[int, Any]:
        given = self.headers.get("authorization", "")
        try:
            if self.token and given != f"Bearer {self.token}":
                raise RefusedError(401, f"unknown credential {given}")
            for one, pattern, name in ROUTES:
                found = re.fullmatch(pattern, path.removeprefix("/apis/v2beta1"))
                if one == method and path.startswith("/apis/v2beta1/") and found:
                    return 200, getattr(self, name)(*found.groups())
            raise RefusedError(404, f"no route {method} {path}")
        except RefusedError as error:
            return error.status, {"error": str(error), "code": 3, "message": str(error), "details": []}

    def _fault(self, method: str, path: str) -> dict[str, Any] | None:
        for fault in self.state.faults:
            if fault["times"] and fault["method"] == method and re.search(fault["path"], path):
                fault["times"] -= 1
                return fault
        return None

    def _fail(self, fault: dict[str, Any]) -> None:
        if fault.get("drop"):
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self._send(fault["status"], fault.get("body", "{}"), fault.get("type", "application/json"))

    def _send(self, status: int, body: str, kind: str = "application/json") -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _control(self, path: str) -> Any:
        told = json.loads(self.body or "{}")
        match path.split("/"):
            case ["reset"]:
                type(self).state = State()
                type(self).token = told.get("token", "")
            case ["log"]:
                return self.state.log
            case ["faults"]:
                self.state.faults.append({"times": 1, **told})
            case ["things", kind]:
                return list(self.state.things[kind].values())
            case ["run", identity]:
                self.state.get("runs", identity).update(told)
            case ["add", kind]:
                return self.state.add(kind, f"{kind[:-1]}_id", told)
        return {}

    def _asked(self, *names: str) -> dict[str, str]:
        if unknown := set(self.query) - set(names):
            raise RefusedError(400, f"unknown query {sorted(unknown)}")
        return self.query

    def _wanted(self, kind: str, *required: str) -> dict[str, Any]:
        self._asked()
        try:
            body = json.loads(self.body)
        except ValueError as error:
            raise RefusedError(400, f"no JSON: {error}") from error
        check(body, kind, kind)
        for name in required:
            if not body.get(name):
                raise RefusedError(400, f"{kind}.{name} is missing")
        return body

    def list_pipelines(self) -> Any:
        space = self._asked(*PAGING, "namespace").get("namespace", "")
        page, token = self.state.listed("pipelines", self.query, lambda one: one.get("namespace", "") == space)
        return {"pipelines": page, "total_size": len(page), "next_page_token": token}

    def create_pipeline(self) -> Any:
        body = self._wanted("V2beta1Pipeline", "name")
        same = (body["name"].lower(), body.get("namespace"))
        if same in [(one["name"].lower(), one.get("namespace")) for one in self.state.things["pipelines"].values()]:
            raise RefusedError(409, f"pipeline {body['name']} already exists")
        return self.state.add("pipelines", "pipeline_id", {"display_name": body["name"], **body})

    def list_versions(self, pipeline: str) -> Any:
        self._asked(*PAGING)
        self.state.get("pipelines", pipeline)
        page, token = self.state.listed("pipeline_versions", self.query, lambda one: one["pipeline_id"] == pipeline)
        return {"pipeline_versions": page, "total_size": len(page), "next_page_token": token}

    def upload_version(self) -> Any:
        query = self._asked("name", "display_name", "pipelineid", "description", "tags")
        self.state.get("pipelines", query["pipelineid"])
        heading = f"content-type: {self.headers['content-type']}\r\n\r\n".encode()
        (part,) = email.message_from_bytes(heading + self.body).get_payload()
        if part.get_param("name", header="content-disposition") != "uploadfile":
            raise RefusedError(400, "the file is to be called uploadfile")
        if not (part.get_filename() or "").endswith(".yaml"):
            raise RefusedError(400, "unexpected package format")
        spec = next(yaml.load_all(part.get_payload(decode=True), Loader=yaml.CSafeLoader))
        if not {"pipelineInfo", "root", "components", "deploymentSpec"} <= set(spec):
            raise RefusedError(400, "is no pipeline's spec")
        kept = self.state.things["pipeline_versions"].values()
        if (query["pipelineid"], query["name"]) in [(one["pipeline_id"], one["name"]) for one in kept]:
            raise RefusedError(409, f"version {query['name']} already exists")
        made = {"pipeline_id": query["pipelineid"], "name": query["name"], "display_name": query["name"]}
        return self.state.add("pipeline_versions", "pipeline_version_id", {**made, "pipeline_spec": spec})

    def list_experiments(self) -> Any:
        space = self._asked(*PAGING, "namespace").get("namespace", "")
        page, token = self.state.listed("experiments", self.query, lambda one: one.get("namespace", "") == space)
        return {"experiments": page, "total_size": len(page), "next_page_token": token}

    def create_experiment(self) -> Any:
        body = self._wanted("V2beta1Experiment", "display_name")
        same = (body["display_name"], body.get("namespace"))
        kept = self.state.things["experiments"].values()
        if same in [(one["display_name"], one.get("namespace")) for one in kept]:
            raise RefusedError(409, f"experiment {body['display_name']} already exists")
        return self.state.add("experiments", "experiment_id", body)

    def _belongs(self) -> Callable[[dict[str, Any]], bool]:
        query = self._asked(*PAGING, "namespace", "experiment_id")
        if "experiment_id" in query:
            self.state.get("experiments", query["experiment_id"])
            return lambda one: one["experiment_id"] == query["experiment_id"]
        space = query.get("namespace", "")
        inside = {key for key, one in self.state.things["experiments"].items() if one.get("namespace", "") == space}
        return lambda one: one["experiment_id"] in inside

    def _checked_reference(self, body: dict[str, Any]) -> None:
        self.state.get("experiments", body["experiment_id"])
        reference = body["pipeline_version_reference"]
        version = self.state.get("pipeline_versions", reference.get("pipeline_version_id", ""))
        if version["pipeline_id"] != reference.get("pipeline_id"):
            raise RefusedError(400, "the version is another pipeline's")
        fields = version["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
        for name, value in body.get("runtime_config", {}).get("parameters", {}).items():
            if name not in fields:
                raise RefusedError(400, f"parameter {name!r} is unknown")
            if not TYPES[fields[name]["parameterType"]](value):
                raise RefusedError(400, f"parameter {name!r}: {value!r} is no {fields[name]['parameterType']}")

    def list_runs(self) -> Any:
        page, token = self.state.listed("runs", self.query, self._belongs())
        return {"runs": page, "total_size": len(page), "next_page_token": token}

    def create_run(self) -> Any:
        body = self._wanted("V2beta1Run", "display_name", "experiment_id", "pipeline_version_reference")
        self._checked_reference(body)
        return self.state.add("runs", "run_id", {**body, "state": "PENDING", "finished_at": "1970-01-01T00:00:00Z"})

    def get_run(self, identity: str) -> Any:
        self._asked("experiment_id")
        run = self.state.get("runs", identity)
        # A run whose course was told goes a station further each time that it is looked at.
        if course := run.get("course"):
            run.update(course.pop(0))
        return {name: value for name, value in run.items() if name != "course"}

    def list_recurring(self) -> Any:
        page, token = self.state.listed("recurring_runs", self.query, self._belongs())
        return {"recurringRuns": page, "total_size": len(page), "next_page_token": token}

    def create_recurring(self) -> Any:
        required = ("display_name", "experiment_id", "pipeline_version_reference", "trigger", "mode", "max_concurrency")
        body = self._wanted("V2beta1RecurringRun", *required)
        self._checked_reference(body)
        if not 1 <= int(body["max_concurrency"]) <= 10:
            raise RefusedError(400, "max concurrency must be 1 to 10")
        if len(body["trigger"].get("cron_schedule", {}).get("cron", "").split()) != 6:
            raise RefusedError(400, "cron is not supported")
        status = {"ENABLE": "ENABLED", "DISABLE": "DISABLED"}[body["mode"]]
        return self.state.add("recurring_runs", "recurring_run_id", {**body, "status": status})

    def switch_recurring(self, identity: str, way: str) -> Any:
        self._asked()
        self.state.get("recurring_runs", identity)["status"] = f"{way.upper()}D"
        return {}

    def delete_recurring(self, identity: str) -> Any:
        self._asked("propagation_policy")
        self.state.get("recurring_runs", identity)
        del self.state.things["recurring_runs"][identity]
        return {}


ROUTES = [
    ("GET", "/pipelines", "list_pipelines"),
    ("POST", "/pipelines", "create_pipeline"),
    ("GET", "/pipelines/([^/]+)/versions", "list_versions"),
    ("POST", "/pipelines/upload_version", "upload_version"),
    ("GET", "/experiments", "list_experiments"),
    ("POST", "/experiments", "create_experiment"),
    ("GET", "/runs", "list_runs"),
    ("POST", "/runs", "create_run"),
    ("GET", "/runs/([^/:]+)", "get_run"),
    ("GET", "/recurringruns", "list_recurring"),
    ("POST", "/recurringruns", "create_recurring"),
    ("POST", "/recurringruns/([^/:]+):(enable|disable)", "switch_recurring"),
    ("DELETE", "/recurringruns/([^/:]+)", "delete_recurring"),
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--certificate", help="PEM file with key and certificate; without it, plain HTTP.")
    certificate = parser.parse_args().certificate
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
