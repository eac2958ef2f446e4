"""First token: where the first token's vector stands for the text, the last layer need not compute any other."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from potstill.learn.anatomy import BERT_LIKE, layer_stack
from potstill.learn.model import TaskModel


class FirstTokenLayer(nn.Module):
    """A BERT-like layer that gives the first token's state alone: all tokens are its keys and values."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer: Any = layer

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        """The first token's state `[batch, 1, width]`.

        Args:
            hidden_states: of all tokens `[batch, tokens, width]`.
            attention_mask: what is added to the scores `[batch, 1, tokens or 1, tokens]`.
        """
        attend = self.layer.attention.self
        first = hidden_states[:, :1]
        query, key, value = (
            made.unflatten(-1, (-1, attend.attention_head_size)).transpose(1, 2)
            for made in (attend.query(first), attend.key(hidden_states), attend.value(hidden_states))
        )
        scores = query @ key.transpose(2, 3) * attend.scaling
        if attention_mask is not None:
            scores = scores + attention_mask[:, :, :1]
        mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
        states: Tensor = self.layer.feed_forward_chunk(self.layer.attention.output(mixed, first))
        return states


@contextmanager
def first_token_alone(model: TaskModel) -> Iterator[None]:
    """While the block runs, the last layer computes the first token alone, if the pooling looks at no other.

    Encoders that are not BERT-like stay as they are.
    """
    config: Any = model.encoder.config
    if model.head.pooling != "cls" or config.model_type not in BERT_LIKE:
        yield
        return
    _, stack = layer_stack(model.encoder)
    last = stack[-1]
    stack[-1] = FirstTokenLayer(last)
    try:
        yield
    finally:
        stack[-1] = last
