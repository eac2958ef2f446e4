"""Versions are registered once, with their lineage, and serve without torch."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from tiny import MODEL, Bench, fresh_mlflow, write_cascade, write_edge

from potstill import moves, registry
from potstill.edge import EdgeModel
from potstill.errors import UserError
from potstill.promotion import history, promote, release_claim, rollback
from potstill.store import folder_digest

# Model, the alias that it earns, and the call, with one of its arguments, at which the process that registers it dies.
KILLED = {
    "among-tags": ("champion", "set_model_version_tag", "judged_against"),
    "before-move": ("champion", "create_registered_model", "before-move is being moved"),
    "before-alias": ("challenger", "set_registered_model_alias", "challenger"),
    "in-move": ("champion", "set_registered_model_alias", "champion"),
}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    uri = fresh_mlflow(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return Bench(tmp_path, uri)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Read only: version 1, the champion."""
    folder = tmp_path_factory.mktemp("shelf")
    with pytest.MonkeyPatch.context() as patch:
        uri = fresh_mlflow(folder)
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        bench = Bench(folder, uri)
        bench.register(
            write_edge(folder / "edge"), "champion", metric="macro_f1", quality="0.875", dataset_digest="d" * 64
        )
        yield bench


def pages(shelf: Bench) -> Path:
    """The logged model's folder."""
    return Path(mlflow.artifacts.download_artifacts(f"models:/{MODEL}/1", tracking_uri=shelf.client.tracking_uri))


def test_the_champion_predicts_where_neither_torch_nor_potstill_is_installed(shelf: Bench):
    script = """
        import sys
        class Wall:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {"torch", "transformers", "potstill", "onnx", "sklearn"}:
                    raise ImportError(f"{name} is not installed")
        sys.meta_path.insert(0, Wall())
        import mlflow, pandas as pd
        mlflow.set_tracking_uri(sys.argv[1])
        model = mlflow.pyfunc.load_model("models:/reviews@champion")
        rows = pd.DataFrame({"review": ["good kettle", "bad bad good", ""]}, index=[7, 8, 9])
        print(model.predict(rows).to_json(orient="split"))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), shelf.client.tracking_uri]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout.splitlines()[-1])
    assert table["columns"] == ["label", "confidence", "probabilities"]
    assert table["index"] == [7, 8, 9]
    assert [row[0] for row in table["data"]] == ["positive", "negative", "negative"]
    assert [row[1] for row in table["data"]] == pytest.approx([0.880797, 0.880797, 0.5], abs=1e-6)
    assert table["data"][0][2] == pytest.approx({"negative": 0.119203, "positive": 0.880797}, abs=1e-6)
    assert "WARNING" not in done.stderr


def test_the_logged_model_holds_no_pickle_and_requires_no_torch(shelf: Bench):
    folder = pages(shelf)
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {"edge.py", "model.onnx", "tokenizer.json", "card.json", "MLmodel", "input_example.json"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".joblib", ".bin"))]
    required = {line.split("==")[0] for line in (folder / "requirements.txt").read_text().split()}
    assert required == {"mlflow-skinny", "numpy", "onnxruntime", "pandas", "tokenizers"}


def test_the_signature_says_text_in_and_label_confidence_and_probabilities_out(shelf: Bench):
    signature = mlflow.models.get_model_info(str(pages(shelf))).signature
    assert signature.inputs.to_dict() == [{"type": "string", "name": "review", "required": True}]
    assert {entry["name"]: entry["type"] for entry in signature.outputs.to_dict()} == {
        "label": "string",
        "confidence": "double",
        "probabilities": "map",
    }


@pytest.mark.parametrize("table", [{"comment": ["good"]}, {"review": [1.5]}])
def test_a_table_without_the_text_column_is_refused(shelf: Bench, table: dict[str, list[Any]]):
    import pandas as pd

    model = mlflow.pyfunc.load_model(str(pages(shelf)))
    with pytest.raises(MlflowException, match="review"):
        model.predict(pd.DataFrame(table))


def test_a_null_text_is_refused_and_an_empty_table_gives_an_empty_one(shelf: Bench):
    import pandas as pd

    model = mlflow.pyfunc.load_model(str(pages(shelf)))
    with pytest.raises(ValueError, match="no text in 'review'"):
        model.predict(pd.DataFrame({"review": ["good", None]}))
    empty = model.predict(pd.DataFrame({"review": pd.Series([], dtype=str)}))
    assert list(empty.columns) == ["label", "confidence", "probabilities"]
    assert len(empty) == 0


@pytest.mark.parametrize("reference", [MODEL, f"{MODEL}@champion", f"{MODEL}/1"])
def test_an_edge_folder_is_fetched_by_name_alias_or_number(shelf: Bench, reference: str):
    with registry.fetched(reference) as folder:
        assert folder_digest(folder) == folder_digest(shelf.folder / "edge")
        assert EdgeModel(folder).answer(["good"])[0]["label"] == "positive"
    assert not folder.exists()


def test_a_cascade_is_one_version_that_answers_by_both_models(bench: Bench):
    bench.register(write_cascade(bench.folder / "edge"), "champion")
    with registry.fetched(MODEL) as folder:
        assert folder_digest(folder) == folder_digest(bench.folder / "edge")
    import pandas as pd

    mlflow.set_tracking_uri(bench.client.tracking_uri)
    logged = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
    table = logged.predict(pd.DataFrame({"review": ["good", "good bad"]}))
    assert table["confidence"].tolist() == pytest.approx([0.880797, 0.999665], abs=1e-6)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("review", "no such registered model; did you mean reviews"),
        ("zzz", "no such registered model; registered: reviews"),
        (f"{MODEL}@challenger", "has no challenger; name a version: 1"),
        (f"{MODEL}/7", "no version 7; there is 1"),
        (f"{MODEL}/one", "no version one; there is 1"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(shelf: Bench, reference: str, words: str):
    with pytest.raises(UserError, match=words), registry.fetched(reference):
        pass


def test_a_version_that_is_no_edge_model_is_told(bench: Bench):
    bench.client.create_registered_model("other")
    (bench.folder / "other").mkdir()
    (bench.folder / "other" / "notes.txt").write_text("by hand")
    bench.client.create_model_version("other", source=(bench.folder / "other").as_uri())
    with pytest.raises(UserError, match="version 1 holds no edge model"), registry.fetched("other/1"):
        pass


def test_versions_are_listed_with_alias_quality_and_origin(shelf: Bench):
    (line,) = registry.versions(MODEL)
    assert (line.model, line.version, line.aliases) == (MODEL, "1", ("champion",))
    assert (line.quality, line.dataset_digest) == ("macro_f1 0.875", "d" * 64)
    assert registry.versions() == [line]


def test_the_same_edge_model_is_registered_once_and_nothing_moves(bench: Bench):
    edge = write_edge(bench.folder / "edge")
    assert bench.register(edge, "champion") == registry.Registered("1", "champion")
    before = history(MODEL)
    assert bench.register(edge, "challenger", judged_against="1") == registry.Registered("1", "champion")
    assert [line.version for line in registry.versions(MODEL)] == ["1"]
    assert bench.aliases() == {"champion": "1"}
    assert history(MODEL) == before


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A model each for processes that were killed while they registered its first version."""
    folder = tmp_path_factory.mktemp("killed")
    bench = Bench(folder, fresh_mlflow(folder))
    write_edge(folder / "edge")
    script = """
        import json, os, signal, sys
        from pathlib import Path
        from mlflow import MlflowClient
        from potstill.registry import register_edge

        def deadly(call, word):
            def die_or_call(*given, **named):
                return os.kill(os.getpid(), signal.SIGKILL) if word in given else call(*given, **named)
            return die_or_call

        for model, (alias, name, word) in json.loads(sys.argv[1]).items():
            if os.fork() == 0:
                setattr(MlflowClient, name, deadly(getattr(MlflowClient, name), word))
                register_edge(model, Path(sys.argv[3]), alias=alias, **json.loads(sys.argv[2]))
            assert os.wait()[1] == signal.SIGKILL, model
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", bench.client.tracking_uri)
        arguments = json.dumps(KILLED), json.dumps(registration(bench)), str(folder / "edge")
        command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return bench


def registration(bench: Bench) -> dict[str, Any]:
    tags = {"recipe": "reviews", "edge_digest": folder_digest(bench.folder / "edge"), "quality": "0.9"}
    run_id = bench.client.create_run(bench.experiment).info.run_id
    return {"run_id": run_id, "tags": tags, "judged_against": "none", "why": "first"}


@pytest.mark.parametrize("model", ["among-tags", "before-move", "before-alias"])
def test_a_registration_that_was_killed_is_gone_on_with_once(
    killed: Bench, model: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", killed.client.tracking_uri)
    alias, *_ = KILLED[model]
    assert [line.aliases for line in registry.versions(model)] == [()]
    for _ in range(2):
        again = registry.register_edge(model, killed.folder / "edge", alias=alias, **registration(killed))
        assert again == registry.Registered("1", alias)
        assert [(line.version, line.aliases) for line in registry.versions(model)] == [("1", (alias,))]
        assert [(made.before, made.to) for made in history(model)] == ([(None, "1")] if alias == "champion" else [])
    tags = killed.client.get_model_version(model, "1").tags
    assert (tags["recipe"], tags["quality"], tags["judged_against"]) == ("reviews", "0.9", "none")


def test_a_registration_that_was_killed_in_its_move_is_gone_on_with_after_the_claim_is_released(
    killed: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", killed.client.tracking_uri)
    with pytest.raises(UserError, match=r"began \d+ s ago to move the champion to version 1"):
        registry.register_edge("in-move", killed.folder / "edge", alias="champion", **registration(killed))
    monkeypatch.setattr(moves, "RELEASE_AFTER_S", 0)
    release_claim("in-move")
    again = registry.register_edge("in-move", killed.folder / "edge", alias="champion", **registration(killed))
    assert [(line.version, line.aliases) for line in registry.versions("in-move")] == [(again.version, ("champion",))]
    assert [(made.before, made.to) for made in history("in-move")] == [(None, again.version)]


def test_a_champion_that_was_rolled_back_is_not_promoted_by_a_rerun(bench: Bench):
    first, second = write_edge(bench.folder / "a", good=2), write_edge(bench.folder / "b", good=3)
    bench.register(first, "champion")
    bench.register(second, "champion", judged_against="1")
    rollback(MODEL, "complaints")
    assert bench.register(second, "champion", judged_against="1") == registry.Registered("2", None)
    assert bench.aliases() == {"champion": "1"}
    assert [made.to for made in history(MODEL)] == ["1", "2", "1"]


def test_what_a_person_promoted_after_a_kill_and_rolled_back_is_not_promoted_by_a_rerun(bench: Bench):
    first, second = write_edge(bench.folder / "a", good=2), write_edge(bench.folder / "b", good=3)
    bench.register(first, "champion")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "move", lambda *_: (_ for _ in ()).throw(UserError("MLflow went away")))
        with pytest.raises(UserError, match="went away"):
            bench.register(second, "champion", judged_against="1")
    promote(MODEL, "2", "by hand then")
    rollback(MODEL, "complaints")
    assert bench.register(second, "champion", judged_against="1") == registry.Registered("2", None)
    assert bench.aliases() == {"champion": "1"}


def test_a_challenger_that_another_took_the_place_of_stays_so(bench: Bench):
    first, second, third = (write_edge(bench.folder / name, good=good) for name, good in (("a", 2), ("b", 3), ("c", 4)))
    bench.register(first, "champion")
    bench.register(second, "challenger", judged_against="1")
    bench.register(third, "challenger", judged_against="1")
    assert bench.register(second, "challenger", judged_against="1") == registry.Registered("2", None)
    assert bench.aliases() == {"champion": "1", "challenger": "3"}


def test_more_models_than_a_page_holds_are_all_listed(bench: Bench):
    for number in range(100):
        bench.client.create_registered_model(f"a{number:03d}")
    bench.bare(1)
    assert [line.model for line in registry.versions()] == [MODEL]
    with pytest.raises(UserError, match="did you mean reviews"):
        registry.versions("revews")


def test_a_refused_model_is_not_registered_even_if_it_once_was(bench: Bench):
    edge = write_edge(bench.folder / "edge")
    assert bench.register(edge, None) == registry.Registered(None, None)
    assert registry.versions() == []
    bench.register(edge, "champion")
    assert bench.register(edge, None) == registry.Registered(None, None)
    assert bench.aliases() == {"champion": "1"}


def test_the_second_model_becomes_challenger_or_champion_as_asked(bench: Bench):
    bench.register(write_edge(bench.folder / "a", good=2), "champion")
    bench.register(write_edge(bench.folder / "b", good=3), "challenger", judged_against="1")
    assert bench.aliases() == {"champion": "1", "challenger": "2"}
    bench.register(write_edge(bench.folder / "c", good=4), "champion", judged_against="1")
    assert bench.aliases() == {"champion": "3", "challenger": "2"}
    assert [(move.before, move.to) for move in history(MODEL)] == [(None, "1"), ("1", "3")]


def test_lineage_stands_in_the_tags_and_leads_to_the_run(bench: Bench):
    bench.register(write_edge(bench.folder / "edge"), "champion", teacher_digest="t", recipe="reviews")
    version = bench.client.get_model_version(MODEL, "1")
    assert version.tags["teacher_digest"] == "t"
    assert version.tags["recipe"] == "reviews"
    assert version.tags["judged_against"] == "none"
    assert bench.client.get_run(version.run_id).info.experiment_id == bench.experiment


def test_a_model_judged_against_a_champion_that_is_gone_is_not_made_champion(bench: Bench):
    bench.register(write_edge(bench.folder / "a", good=2), "champion")
    with pytest.raises(UserError, match="the champion is version 1 by now, not none, which"):
        bench.register(write_edge(bench.folder / "b", good=3), "champion", judged_against="none")
    assert [line.version for line in registry.versions(MODEL)] == ["1"]


def test_a_new_model_has_to_beat_the_present_champion(bench: Bench):
    assert registry.champion_to_beat(MODEL, "new") == "none"
    bench.register(write_edge(bench.folder / "edge"), "champion")
    assert registry.champion_to_beat(MODEL, "new") == "1"


def test_an_unchanged_model_is_judged_as_it_was_then(bench: Bench):
    first, second = write_edge(bench.folder / "a", good=2), write_edge(bench.folder / "b", good=3)
    bench.register(first, "champion")
    assert registry.champion_to_beat(MODEL, folder_digest(first)) == "none"
    bench.register(second, "champion", judged_against="1")
    assert registry.champion_to_beat(MODEL, folder_digest(second)) == "1"
    assert registry.champion_to_beat(MODEL, folder_digest(first)) == "none"
    bench.client.delete_model_version(MODEL, "1")
    assert registry.champion_to_beat(MODEL, folder_digest(second)) == "none"


def test_of_several_tasks_each_answer_is_an_object_of_its_own(bench: Bench):
    import pandas as pd

    edge = write_edge(bench.folder / "several")
    card = json.loads((edge / "card.json").read_text())
    several = [
        [task, {"kind": "classification", "names": [name]}] for task, name in (("tone", "any"), ("topic", "all"))
    ]
    (edge / "card.json").write_text(json.dumps(card | {"outcome": {"kind": "together", "tasks": several}}))
    version = bench.register(edge, "challenger").version
    model = mlflow.pyfunc.load_model(f"models:/{MODEL}/{version}")
    assert [entry["type"] for entry in model.metadata.signature.outputs.to_dict()] == ["object", "object"]
    (row,) = model.predict(pd.DataFrame({"review": ["good"]})).to_dict("records")
    assert row["tone"] == {"label": "any", "confidence": 1.0, "probabilities": {"any": 1.0}}
    assert row["topic"]["label"] == "all"
