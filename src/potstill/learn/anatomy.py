"""Where an encoder keeps what is looked at or cut: its layers, and their queries, keys and values."""

from torch import nn

from potstill.errors import UserError

# Encoders whose parts go by BERT's names.
BERT_LIKE = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
# Where the common architectures keep their stack of layers.
LAYER_PATHS = ("encoder.layer", "encoder.layers", "transformer.layer", "layers", "encoder.encoder.layer")
# What they call the three projections of attention.
PROJECTIONS = (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"), ("q", "k", "v"), ("q_proj", "k_proj", "v_proj"))


def layer_stack(encoder: nn.Module) -> tuple[str, nn.ModuleList]:
    """The name and the list of an encoder's layers.

    Raises:
        UserError: they aren't found.
    """
    modules = dict(encoder.named_modules())
    for path in LAYER_PATHS:
        stack = modules.get(path)
        if isinstance(stack, nn.ModuleList):
            return path, stack
    raise UserError(f"student.layers: can't look into a {type(encoder).__name__}: its list of layers was not found")


def projections(layer: nn.Module) -> tuple[nn.Module, nn.Module, nn.Module]:
    """A layer's projections to queries, keys and values.

    Raises:
        UserError: they aren't found.
    """
    named = {name.rpartition(".")[2]: module for name, module in layer.named_modules()}
    for names in PROJECTIONS:
        if all(name in named for name in names):
            query, key, value = (named[name] for name in names)
            return query, key, value
    raise UserError(f"distill.terms: the queries, keys and values of a {type(layer).__name__} were not found")


def spread(kept: int, layers: int) -> list[int]:
    """Indices of `kept` of `layers` layers, evenly spread, the first and the last among them.

    One layer alone is the first. (Jiao et al. 2020 and Sun et al. 2019 compare such choices.)
    """
    if kept == 1:
        return [0]
    return [round(i * (layers - 1) / (kept - 1)) for i in range(kept)]
