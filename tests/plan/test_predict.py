import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from potstill.compress.first_token import FirstTokenLayer
from potstill.learn.pruned import prunable
from potstill.plan.limits import Limits, measure_limits
from potstill.plan.predict import Measures, Predictor, Timed


def counted(measures: Measures, tokens: int) -> int:
    """Operations of such an encoder, as PyTorch counts them."""
    config = BertConfig(
        vocab_size=50,
        hidden_size=measures.width,
        num_hidden_layers=measures.layers,
        num_attention_heads=4,
        intermediate_size=2 * measures.feed_forward,
        attn_implementation="eager",
    )
    encoder = BertModel(config, add_pooling_layer=False).eval()
    heads = 4 * measures.attention // measures.width
    for layer in prunable(encoder):
        layer.keep(range(heads), range(measures.feed_forward))
    if measures.first_alone:
        encoder.encoder.layer[-1] = FirstTokenLayer(encoder.encoder.layer[-1])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(input_ids=torch.ones(1, tokens, dtype=torch.long), attention_mask=torch.ones(1, tokens))
    return counter.get_total_flops()


@pytest.mark.parametrize("tokens", [3, 17])
@pytest.mark.parametrize(
    "measures",
    [Measures(3, 32, 32, 64), Measures(2, 32, 16, 24), Measures(3, 32, 32, 64, True), Measures(1, 32, 16, 40, True)],
)
def test_operations_are_those_that_pytorch_counts(measures: Measures, tokens: int):
    assert measures.operations(np.array([float(tokens)])) == pytest.approx(counted(measures, tokens), rel=1e-9)


def timed(measures: Measures, costs: list[float], noise: float = 0.0) -> Timed:
    tokens = np.arange(4.0, 64.0, 3.0)
    ms = measures.terms(tokens) @ np.array(costs)
    return Timed(measures, tokens, ms * np.random.default_rng(0).normal(1, noise, len(ms)))


FORMS = [Measures(1, 384, 384, 1536), Measures(3, 384, 192, 768), Measures(6, 384, 384, 1536)]


def test_costs_are_found_again_and_foretell_a_form_that_was_not_timed():
    costs = [0.05, 0.08, 25.0, 0.4]
    predictor = Predictor.fit([timed(form, costs, noise=0.03) for form in FORMS])
    other = timed(Measures(4, 384, 384, 1536), costs)
    assert predictor.ms(other.measures, other.tokens) == pytest.approx(other.ms, rel=0.05)


def test_no_cost_is_below_zero():
    odd = [Timed(form, np.arange(4.0, 64.0), np.linspace(5, 1, 60)) for form in FORMS]
    assert (Predictor.fit(odd).costs >= 0).all()


def test_the_least_time_is_that_of_the_slower_of_multiplying_and_moving():
    limits = Limits(gflops=50, gbytes_s=10, overhead_ms=0.01)
    assert limits.least_ms(operations=1e9, weight_bytes=1e6) == pytest.approx(20)
    assert limits.least_ms(operations=1e6, weight_bytes=1e9) == pytest.approx(100)


def test_a_machines_limits_are_plausible():
    limits = measure_limits()
    assert 0.1 < limits.gflops < 1e5
    assert 0.1 < limits.gbytes_s < 1e4
    assert 0 < limits.overhead_ms < 10
