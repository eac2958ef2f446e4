"""What goes on inside an encoder, seen from outside: states and projections of its layers, and the pooled vector."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from potstill.errors import UserError
from potstill.learn import terms
from potstill.learn.anatomy import layer_stack, projections
from potstill.learn.model import TaskModel
from potstill.recipe import VECTOR_TERM

# Of a relation head (Wang et al. 2021 use 64 / 4 of a base-size model), at least.
RELATION_WIDTH = 16


class Witness:
    """Keeps what a model's last pass gave at some places, until the next.

    Args:
        model: to be watched; it works as before.
        layers: numbers of the layers to watch, from 0.
    """

    def __init__(self, model: TaskModel, layers: Sequence[int]) -> None:
        self._seen: dict[str, Tensor] = {}
        _, stack = layer_stack(model.encoder) if layers else ("", nn.ModuleList())
        self._watch("vector", model.pooling)
        for place, number in enumerate(layers):
            self._watch(_hidden(place), stack[number])
            for name, module in zip(("query", "key", "value"), projections(stack[number]), strict=True):
                self._watch(f"{name}_{place}", module)

    def _watch(self, name: str, module: nn.Module) -> None:
        def keep(_module: nn.Module, _given: Any, made: Any) -> None:
            # Some layers give a tuple, of which the states are the first. Under autocast they are rounded.
            self._seen[name] = (made[0] if isinstance(made, tuple) else made).float()

        module.register_forward_hook(keep)

    def __getitem__(self, name: str) -> Tensor:
        """`vector` `[batch, width]`; of place 0 `hidden_0`, `query_0`, `key_0`, `value_0` `[batch, tokens, width]`."""
        return self._seen[name]


class InnerTerms:
    """The terms that compare what goes on inside a student with its teacher.

    For those of layers the teacher runs along; its pooled vectors come with the batch, from the signals.

    Args:
        student: learns; where it is narrower, projections of its states are added to it.
        teacher: for terms of layers; it must read the same tokens.
        pairs: (student's layer, teacher's layer); a relation compares the last pair.
        names: of the terms.

    Raises:
        UserError: attention is to be compared, but the numbers of heads differ.
    """

    def __init__(
        self, student: TaskModel, teacher: TaskModel, pairs: Sequence[tuple[int, int]], names: Sequence[str]
    ) -> None:
        pairs = pairs if set(names) - {VECTOR_TERM} else ()
        self._names, self._places = names, range(len(pairs))
        # A copy: the teacher is also what other students are cut from, and they are to learn.
        self._teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
        self._student = student
        self._student_sees = Witness(student, [own for own, _ in pairs])
        self._teacher_sees = Witness(self._teacher, [its for _, its in pairs])
        (width, self._heads), (wide, heads) = _form(student), _form(teacher)
        if "attention" in names and self._heads != heads:
            raise UserError(
                f"distill.terms.attention: the student has {self._heads} heads, the teacher {heads}; use relation"
            )
        self._relation_heads = _relation_heads(width, wide)
        if width != wide:
            compared = [*(_hidden(place) for place in self._places if "hidden" in names), *({VECTOR_TERM} & set(names))]
            missing = [name for name in compared if name not in student.projections]
            student.projections.update({name: nn.Linear(width, wide) for name in missing})

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each term's value an example `[batch]`, of the batch that the student has just seen."""
        mask = batch["attention_mask"]
        if self._places:
            with torch.no_grad():
                self._teacher.to(mask.device).encoder(input_ids=batch["input_ids"], attention_mask=mask)
        compare: dict[str, Callable[[], Tensor]] = {
            "hidden": lambda: self._hidden(mask),
            "attention": lambda: self._attention(mask),
            "relation": lambda: self._relation(mask),
            VECTOR_TERM: lambda: terms.vector_distance(self._projected(VECTOR_TERM), batch[VECTOR_TERM]),
        }
        return {name: compare[name]() for name in self._names}

    def _projected(self, name: str) -> Tensor:
        """What the student shows at a place, as wide as what the teacher shows there."""
        states, through = self._student_sees[name], self._student.projections
        return through[name](states) if name in through else states

    def _hidden(self, mask: Tensor) -> Tensor:
        names = [_hidden(place) for place in self._places]
        each = [terms.hidden_distance(self._projected(name), self._teacher_sees[name], mask) for name in names]
        return torch.stack(each).mean(dim=0)

    def _attention(self, mask: Tensor) -> Tensor:
        def scores(sees: Witness, place: int) -> Tensor:
            query, key = (terms.by_heads(sees[f"{name}_{place}"], self._heads) for name in ("query", "key"))
            return query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])

        pairs = [(scores(self._student_sees, i), scores(self._teacher_sees, i)) for i in self._places]
        return torch.stack([terms.attention_divergence(own, its, mask) for own, its in pairs]).mean(dim=0)

    def _relation(self, mask: Tensor) -> Tensor:
        last = self._places[-1]
        each = []
        for name in ("query", "key", "value"):
            own, its = (
                terms.relations(sees[f"{name}_{last}"], self._relation_heads)
                for sees in (self._student_sees, self._teacher_sees)
            )
            each.append(terms.attention_divergence(own, its, mask))
        return torch.stack(each).mean(dim=0)


def _hidden(place: int) -> str:
    return f"hidden_{place}"


def _form(model: TaskModel) -> tuple[int, int]:
    """Width and number of attention heads."""
    config: Any = model.encoder.config
    return config.hidden_size, getattr(config, "num_attention_heads", 1)


def _relation_heads(width: int, other: int) -> int:
    """The most heads that divide both widths and leave RELATION_WIDTH to each; one if there are none."""
    both = math.gcd(width, other)
    return max((n for n in range(1, both + 1) if both % n == 0 and min(width, other) // n >= RELATION_WIDTH), default=1)
