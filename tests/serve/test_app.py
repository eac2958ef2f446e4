"""The service's routes, on a model whose answers are worked out by hand."""

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError
from tiny import write_cascade, write_edge

from potstill.serve.app import PredictRequest, make_app
from potstill.serve.limits import Limits
from potstill.serve.protocol import InferRequest
from potstill.serve.release import Release, announce

SURE = 1 / (1 + math.exp(-2))
INFER = "/v2/models/reviews/infer"


def service(folder: Path, **limits: Any) -> TestClient:
    write_edge(folder / "1")
    announce(folder, Release("reviews", "1", str(folder / "1")))
    return TestClient(make_app(folder, Limits(**limits), os.getppid()))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with service(tmp_path_factory.mktemp("state")) as client:
        yield client


def tensors(*texts: str) -> dict[str, Any]:
    return {"inputs": [{"name": "review", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}]}


def test_texts_and_rows_are_answered_in_their_order(client: TestClient):
    told = client.post("/predict", json={"rows": ["good kettle", {"review": "bad"}]}).json()
    assert (told["model"], told["version"]) == ("reviews", "1")
    assert [answer["label"] for answer in told["answers"]] == ["positive", "negative"]
    assert told["answers"][0]["probabilities"] == pytest.approx({"negative": 1 - SURE, "positive": SURE})


def test_the_open_protocol_answers_alike(client: TestClient):
    told = client.post(INFER, json={"id": "7", **tensors("good kettle", "bad")}).json()
    assert (told["id"], told["model_name"], told["model_version"]) == ("7", "reviews", "1")
    found = {tensor["name"]: tensor["data"] for tensor in told["outputs"]}
    assert found["label"] == ["positive", "negative"]
    assert found["probabilities"] == pytest.approx([1 - SURE, SURE, SURE, 1 - SURE])


def test_only_the_outputs_that_are_asked_for_are_told(client: TestClient):
    told = client.post(INFER, json={**tensors("good"), "outputs": [{"name": "label"}]}).json()
    assert [tensor["name"] for tensor in told["outputs"]] == ["label"]
    assert "id" not in told


def test_a_version_may_be_named(client: TestClient):
    assert client.post("/v2/models/reviews/versions/1/infer", json=tensors("good")).status_code == 200
    refused = client.post("/v2/models/reviews/versions/2/infer", json=tensors("good"))
    assert (refused.status_code, refused.json()["error"]) == (404, "no version 2 of reviews now; there is 1")


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/reviews/ready", "/v2"])
def test_it_says_that_it_is_well(client: TestClient, path: str):
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_a_balancer_may_ask_for_the_head_alone(client: TestClient, path: str):
    assert client.head(path).status_code == 200


def test_it_tells_what_it_takes_and_gives(client: TestClient):
    told = client.get("/v2/models/reviews").json()
    assert told == client.get("/model").json()
    assert told["inputs"] == [{"name": "review", "datatype": "BYTES", "shape": [-1]}]
    assert [output["name"] for output in told["outputs"]] == ["label", "confidence", "probabilities"]


def test_words_are_weighed(client: TestClient):
    told = client.post("/explain", json={"row": "good kettle"}).json()
    assert told["answer"]["label"] == "positive"
    assert told["words"] == ["good", "kettle"]
    assert told["weights"][""] == pytest.approx([SURE - 0.5, 0])


def test_words_are_weighed_by_the_model_of_a_cascade_that_has_answered(tmp_path: Path):
    write_cascade(tmp_path / "1")
    announce(tmp_path, Release("reviews", "1", str(tmp_path / "1")))
    with TestClient(make_app(tmp_path, Limits(), os.getppid())) as client:
        told = client.post("/explain", json={"row": "good bad"}).json()
        # The larger one has answered; without a word the smaller one would be sure.
        whole, without_bad = (1 / (1 + math.exp(-logit)) for logit in (8, 10))
        assert told["answer"]["confidence"] == pytest.approx(whole)
        assert told["weights"][""] == pytest.approx([whole - (1 - SURE), whole - without_bad])
        assert client.post("/explain", json={"row": ""}).json()["words"] == []


def test_the_page_loads_nothing_from_elsewhere(client: TestClient):
    page = client.get("/")
    assert page.status_code == 200
    assert "http" not in page.text.replace("http-equiv", "")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_its_interface_is_described(client: TestClient):
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/predict", "/explain", "/v2/models/{name}/infer", "/v2/health/ready"} <= set(paths)
    assert paths["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]


@pytest.mark.parametrize(
    ("path", "body", "status", "why"),
    [
        ("/predict", {"rows": []}, 400, "rows: List should have at least 1 item"),
        ("/predict", {"text": "good"}, 400, "rows: Field required"),
        ("/predict", {"rows": [{"text": "good"}]}, 400, "no text in 'review'"),
        ("/predict", {"rows": [{"review": 5}]}, 400, "review: 5 is not text"),
        ("/predict", {"rows": ["good"] * 257}, 413, "257 rows; at most 256 a request"),
        ("/predict", {"rows": [{"review": ["x" * 100_000]}]}, 400, "review: ['xxx"),
        ("/explain", {"row": "good " * 1001}, 413, "5,005 characters; at most 5,000 are explained"),
        ("/explain", {"row": {"text": "good"}}, 400, "no text in 'review'"),
        (INFER, {"inputs": []}, 400, "inputs: List should have at least 1 item"),
        (INFER, {"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}, 400, "no column 'x'"),
        (
            INFER,
            {"inputs": [{"name": "review", "shape": [1], "datatype": "FP64", "data": [1]}]},
            400,
            "a text is BYTES",
        ),
        (INFER, {"inputs": [{"name": "review", "shape": [1], "datatype": "X", "data": ["a"]}]}, 400, "datatype"),
        (INFER, {"inputs": [{"name": "review", "shape": ["1"], "datatype": "BYTES", "data": ["a"]}]}, 400, "shape.0"),
        (INFER, {"inputs": [{"name": "review", "shape": [0], "datatype": "BYTES", "data": []}]}, 400, "no rows"),
        ("/v2/models/other/infer", tensors("good"), 404, "no model 'other'; there is reviews"),
        ("/nowhere", {}, 404, "Not Found"),
    ],
)
def test_a_mistake_is_told_in_one_line(client: TestClient, path: str, body: Any, status: int, why: str):
    refused = client.post(path, json=body)
    assert refused.status_code == status
    assert list(refused.json()) == ["error"]
    assert why in refused.json()["error"]
    assert "\n" not in refused.json()["error"]
    assert len(refused.json()["error"]) <= 300


def test_what_is_no_json_is_refused(client: TestClient):
    refused = client.post("/predict", content=b"{rows", headers={"content-type": "application/json"})
    assert refused.status_code == 400
    assert refused.json()["error"] == "body: no JSON from character 1 on"
    plain = client.post("/predict", content=b'{"rows": ["good"]}', headers={"content-type": "text/plain"})
    assert (plain.status_code, "content-type" in plain.json()["error"]) == (400, True)


def test_a_body_of_a_million_mistakes_is_refused_for_the_first():
    for model, body in (
        (PredictRequest, {"rows": [1] * 1000}),
        (InferRequest, {"inputs": [1] * 1000}),
        (InferRequest, {**tensors("good"), "outputs": [1] * 1000}),
    ):
        with pytest.raises(ValidationError) as refused:
            model.model_validate(body)
        assert refused.value.error_count() <= 2


def test_half_a_character_is_answered_as_one_that_is_not_known(client: TestClient):
    half = json.dumps({"rows": ["good \ud83d", {"review": "good", "who": "\ud83d"}]})
    told = client.post("/predict", content=half, headers={"content-type": "application/json"})
    assert [answer["label"] for answer in told.json()["answers"]] == ["positive", "positive"]
    body = json.dumps({"id": "\ud83d", **tensors("good")})
    assert client.post(INFER, content=body, headers={"content-type": "application/json"}).json()["id"] == "?"


def test_a_pinned_version_is_answered_by_it_though_another_takes_over_meanwhile(tmp_path: Path):
    with service(tmp_path, batch_rows=8, wait_ms=1500.0) as client:
        write_edge(tmp_path / "2", good=0.5)
        answers: list[Any] = []
        url = "/v2/models/reviews/versions/1/infer"
        asking = threading.Thread(target=lambda: answers.append(client.post(url, json=tensors("good")).json()))
        asking.start()
        time.sleep(0.3)
        announce(tmp_path, Release("reviews", "2", str(tmp_path / "2")))
        asking.join()
        assert client.get("/model").json()["versions"] == ["2"]
        assert answers[0]["model_version"] == "1"
        confidence = next(t for t in answers[0]["outputs"] if t["name"] == "confidence")
        assert confidence["data"] == [pytest.approx(SURE)]


def test_what_cannot_be_opened_now_is_tried_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    with service(tmp_path) as client:
        announce(tmp_path, Release("reviews", "2", str(tmp_path / "2")))
        until(lambda: "still serves version 1" in capfd.readouterr().err)
        assert client.get("/model").json()["versions"] == ["1"]
        assert client.get("/v2/health/ready").json() == {"ready": True}
        write_edge(tmp_path / "2")
        until(lambda: client.get("/model").json()["versions"] == ["2"])


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_is_not_ready_before_it_answers(tmp_path: Path):
    write_edge(tmp_path / "1")
    announce(tmp_path, Release("reviews", "1", str(tmp_path / "1")))
    asleep = TestClient(make_app(tmp_path, Limits(), os.getppid()))
    assert (asleep.get("/v2/health/ready").status_code, asleep.get("/v2/health/live").status_code) == (503, 200)


def test_a_body_beyond_the_limit_is_refused_whether_or_not_its_length_is_told(tmp_path: Path):
    with service(tmp_path, body_bytes=200) as client:
        assert client.post("/predict", json={"rows": ["good"]}).status_code == 200
        long = b'{"rows": ["' + b"good " * 50 + b'"]}'
        for content in (long, iter([long[:150], long[150:]])):
            refused = client.post("/predict", content=content, headers={"content-type": "application/json"})
            assert (refused.status_code, refused.json()["error"]) == (413, "the body has more than 200 bytes")


def test_what_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with service(tmp_path, time_s=0.2) as client:
        monkeypatch.setattr("potstill.edge.EdgeModel.answer", lambda *_: time.sleep(1))
        late = client.post("/predict", json={"rows": ["good"]})
        assert (late.status_code, late.json()["error"]) == (504, "no answer within 0.2 s")


def test_a_failure_is_told_to_the_log_and_not_to_the_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    with service(tmp_path) as client:
        monkeypatch.setattr("potstill.edge.EdgeModel.answer", lambda *_: {}["secret"])
        failed = client.post("/predict", json={"rows": ["good"]})
        assert (failed.status_code, failed.json()) == (500, {"error": "the service failed; its log says why"})
        assert "secret" in capfd.readouterr().err


def test_another_version_takes_over_and_the_old_one_can_come_back(tmp_path: Path):
    with service(tmp_path) as client:
        write_edge(tmp_path / "2", good=0.5)
        for version, sure in (("2", 1 / (1 + math.exp(-0.5))), ("1", SURE)):
            announce(tmp_path, Release("reviews", version, str(tmp_path / version)))
            until(lambda wanted=version: client.get("/model").json()["versions"] == [wanted])
            told = client.post("/predict", json={"rows": ["good"]}).json()
            assert told["version"] == version
            assert told["answers"][0]["confidence"] == pytest.approx(sure)
        serving = [line for line in client.get("/metrics").text.splitlines() if line.startswith("potstill_serving{")]
        assert sorted(line.split("} ")[1] for line in serving) == ["0.0", "1.0"]
        assert any('version="1"' in line and line.endswith("1.0") for line in serving)


def test_requests_and_batches_are_counted_by_route(client: TestClient):
    def counted() -> dict[str, float]:
        lines = client.get("/metrics").text.splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    before = counted()
    client.post("/predict", json={"rows": ["good", "bad"]})
    client.post("/predict", json={"rows": []})
    after = counted()
    for key, more in {
        'potstill_requests_total{route="/predict",status="200"}': 1,
        'potstill_requests_total{route="/predict",status="400"}': 1,
        "potstill_batch_rows_sum": 2,
    }.items():
        assert after[key] - before.get(key, 0.0) == more
