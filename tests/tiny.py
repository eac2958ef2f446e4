"""A hand-made edge model whose answers can be worked out on paper, and a fresh MLflow database to register it in."""

import functools
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
from mlflow import MlflowClient
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from potstill import registry
from potstill.store import folder_digest

MODEL = "reviews"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "kettle"]
# A text's logits are the sums of its words' rows: (negative, positive). A padding that is not masked would show.
VALUES = [[100, 0], [0, 0], [0, 0], [0, 0], [0, 2], [2, 0], [0, 0]]


def write_edge(folder: Path, good: float = 2.0, max_tokens: int = 8) -> Path:
    """An edge folder in which each word `good` adds `good` to the logit of positive, each `bad` 2 to negative."""
    folder.mkdir(parents=True)
    table = np.array(VALUES, dtype=np.float32)
    table[WORDS.index("good"), 1] = good
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["vectors", "weights"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "tokens"], ["logits"], keepdims=0),
    ]
    constants = {"table": table, "last": np.array([2]), "tokens": np.array([1])}
    shape = ["batch", "tokens"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    card = {
        "name": "tiny",
        "task": "sentiment",
        "outcome": {"kind": "classification", "names": ["negative", "positive"]},
        "text": ["review"],
        "features": {"numeric": [], "dates": [], "categorical": []},
        "max_tokens": max_tokens,
        "pad_token_id": 0,
        "pad_token": "[PAD]",
    }
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def write_cascade(folder: Path) -> Path:
    """Two such models: the larger one's `good` weighs 10; from a confidence of 0.8 on the smaller one decides."""
    write_edge(folder, good=10.0)
    write_edge(folder / "first")
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    (folder / "card.json").write_text(json.dumps(card | {"sure_from": 0.8}), encoding="utf-8")
    return folder


@functools.cache
def _template() -> Path:
    """An empty database with MLflow's schema, made once a process: making one takes a second."""
    path = Path(tempfile.mkdtemp(prefix="potstill-tests-")) / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


def fresh_mlflow(folder: Path) -> str:
    """URI of a fresh database in a folder."""
    shutil.copy(_template(), folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"


def bare_versions(client: MlflowClient, experiment: str, model: str, count: int) -> None:
    """Versions without files, each judged against the one before."""
    run = client.create_run(experiment).info
    client.create_registered_model(model)
    for number in range(1, count + 1):
        tags = {"judged_against": str(number - 1) if number > 1 else "none", "kfp.run_id": f"run-{number}"}
        client.create_model_version(model, source=run.artifact_uri, run_id=run.run_id, tags=tags)


class Bench:
    """A fresh server on which models are registered."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder = folder
        self.client = MlflowClient(uri)
        self.experiment = self.client.create_experiment("reviews", artifact_location=(folder / "artifacts").as_uri())

    def register(self, edge: Path, alias: str | None, judged_against: str = "none", **tags: str) -> registry.Registered:
        return registry.register_edge(
            MODEL,
            edge,
            run_id=self.client.create_run(self.experiment).info.run_id,
            tags={"edge_digest": folder_digest(edge), **tags},
            alias=alias,
            judged_against=judged_against,
            why="first",
        )

    def bare(self, count: int) -> None:
        """Versions without files, each judged against the one before."""
        bare_versions(self.client, self.experiment, MODEL, count)

    def tag(self, version: int, **tags: str) -> None:
        for key, value in tags.items():
            self.client.set_model_version_tag(MODEL, str(version), key, value)

    def alias(self, alias: str, version: int) -> None:
        """By hand, as a person does it on MLflow's page."""
        self.client.set_registered_model_alias(MODEL, alias, str(version))

    def aliases(self) -> dict[str, str]:
        return {name: str(v) for name, v in self.client.get_registered_model(MODEL).aliases.items()}
