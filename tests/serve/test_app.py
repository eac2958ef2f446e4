"""The service's routes, on a model whose answers are worked out by hand."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tiny import write_edge

from potstill.serve.app import make_app
from potstill.serve.limits import Limits
from potstill.serve.release import Release, announce

SURE = 1 / (1 + math.exp(-2))
INFER = "/v2/models/reviews/infer"


def service(folder: Path, **limits: Any) -> TestClient:
    write_edge(folder / "1")
    announce(folder, Release("reviews", "1", str(folder / "1")))
    return TestClient(make_app(folder, Limits(**limits)))


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
        ("/explain", {"row": {"text": "good"}}, 400, "no text in 'review'"),
        (INFER, {"inputs": []}, 400, "inputs: List should have at least 1 item"),
        (INFER, {"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}, 400, "no column 'x'"),
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


def test_what_is_no_json_is_refused(client: TestClient):
    refused = client.post("/predict", content=b"{rows", headers={"content-type": "application/json"})
    assert refused.status_code == 400
    assert "JSON" in refused.json()["error"]


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
    write_edge(tmp_path / "1")
    announce(tmp_path, Release("reviews", "1", str(tmp_path / "1")))
    with TestClient(make_app(tmp_path, Limits()), raise_server_exceptions=False) as client:
        monkeypatch.setattr("potstill.edge.EdgeModel.answer", lambda *_: {}["secret"])
        failed = client.post("/predict", json={"rows": ["good"]})
        assert (failed.status_code, failed.json()) == (500, {"error": "the service failed; its log says why"})
        assert "secret" in capfd.readouterr().err


def test_another_version_takes_over_and_the_old_one_can_come_back(tmp_path: Path):
    with service(tmp_path) as client:
        write_edge(tmp_path / "2", good=0.5)
        for version, sure in (("2", 1 / (1 + math.exp(-0.5))), ("1", SURE)):
            announce(tmp_path, Release("reviews", version, str(tmp_path / version)))
            until = time.monotonic() + 20
            while client.get("/model").json()["versions"] != [version]:
                assert time.monotonic() < until
                time.sleep(0.02)
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
