"""The gate: what it must hold by properties, and that each of its branches, if inverted, breaks one of them."""

import ast
import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from potstill.evaluate import contract
from potstill.evaluate.quality import Interval
from potstill.metrics import Meaning
from potstill.recipe import Budget
from potstill.steps import register

BUDGET = Budget(retention=0.95, agreement=0.8, flips=0.02, latency_p95_ms=5.0, size_mb=20.0)
SCORE, ERROR = Meaning("macro-F1", True, zero_is_nothing=True), Meaning("MAE", False)
NO_NUMBERS = (math.nan, math.inf, -math.inf)
# Figures of a task or of the whole model: their limit, and whether more is better.
LIMITS = {
    "retention": (0.95, True),
    "agreement": (0.8, True),
    "flips": (0.02, False),
    "latency_p95_ms": (5.0, False),
    "size_mb": (20.0, False),
}
CLAUSE = {"over_control": "control", "over_baseline": "baseline", "latency_p95_ms": "latency", "size_mb": "size"}
OVER = ("over_control", "over_baseline")
Gate = dict[str, Any]


def around(limit: float) -> st.SearchStrategy[float]:
    """Numbers on and beside a limit, and anywhere."""
    beside = [limit, math.nextafter(limit, -9), math.nextafter(limit, 99), *NO_NUMBERS]
    return st.sampled_from(beside) | st.floats(0, 2 * limit)


# Bounds in order; some lie on zero, some are no numbers.
bounds = st.floats(-1, 1) | st.sampled_from([0.0, -0.001, 0.001])
intervals = st.lists(bounds, min_size=3, max_size=3).map(sorted).map(lambda b: Interval(b[1], b[0], b[2]))
holed = st.tuples(intervals, st.sampled_from(["value", "low", "high"]), st.sampled_from(NO_NUMBERS)).map(
    lambda drawn: Interval(**(vars(drawn[0]) | {drawn[1]: drawn[2]}))
)
figures = st.fixed_dictionaries(
    {name: around(limit) for name, (limit, _) in LIMITS.items()} | dict.fromkeys(OVER, intervals | intervals | holed)
)
sound = st.fixed_dictionaries(
    {name: st.floats(*((limit, 1) if more else (0, limit))) for name, (limit, more) in LIMITS.items()}
    | dict.fromkeys(OVER, st.just(Interval(0.0, -0.1, 0.1)))
)
meanings = st.sampled_from([SCORE, ERROR])
rivals = st.none() | intervals | holed


def judged(gate: Gate, found: dict[str, Any], metric: Meaning, over_champion: Interval | None = None) -> Any:
    """The verdict on a model with one task."""
    return several(gate, {"": found}, metric, over_champion)


def several(gate: Gate, tasks: dict[str, Any], metric: Meaning, over_champion: Interval | None = None) -> Any:
    own = ("retention", "agreement", "flips", *OVER)
    measured = {task: gate["Measured"](metric, **{name: found[name] for name in own}) for task, found in tasks.items()}
    one = next(iter(tasks.values()))
    rival = gate["Rival"]("3", metric, over_champion) if over_champion else None
    return gate["judge"](measured, gate["Cost"](one["latency_p95_ms"], one["size_mb"]), BUDGET, rival)


def holds(name: str, value: Any, metric: Meaning) -> bool:
    """Whether a clause holds, said anew: from the words of the recipe, not from the gate."""
    if name in LIMITS:
        limit, more = LIMITS[name]
        return math.isfinite(value) and not (value < limit if more else value > limit)
    # Worse beyond chance: the whole interval lies on the wrong side.
    worse = value.high < 0 if metric.higher_is_better else value.low > 0
    return all(map(math.isfinite, vars(value).values())) and not worse


def words_of(verdict: Any) -> dict[str, str]:
    return {clause.name: clause.words for clause in verdict.clauses}


def each_clause_holds_as_the_recipe_says_and_accepted_means_all_do(gate: Gate) -> None:
    @given(figures | sound, meanings, rivals)
    def claim(found: dict[str, Any], metric: Meaning, rival: Interval | None) -> None:
        verdict = judged(gate, found, metric, rival)
        expected = {CLAUSE.get(name, name): holds(name, value, metric) for name, value in found.items()}
        assert {clause.name: clause.passed for clause in verdict.clauses} == expected
        assert verdict.accepted == all(expected.values())
        assert [reason.split(":")[0] for reason in verdict.reasons] == [c.name for c in verdict.clauses if not c.passed]

    claim()


def what_is_worse_is_never_accepted_where_the_better_was_refused(gate: Gate) -> None:
    @given(sound | figures, meanings, st.sampled_from([*LIMITS, *OVER]), st.floats(0, 1) | st.sampled_from(NO_NUMBERS))
    def claim(found: dict[str, Any], metric: Meaning, name: str, by: float) -> None:
        more = LIMITS[name][1] if name in LIMITS else metric.higher_is_better
        step = -by if more else by
        moved = (
            found[name] + step if name in LIMITS else Interval(*(bound + step for bound in vars(found[name]).values()))
        )
        assert judged(gate, found | {name: moved}, metric).accepted <= judged(gate, found, metric).accepted

    claim()


def the_order_of_tasks_is_immaterial_and_each_counts(gate: Gate) -> None:
    @given(sound, sound | figures, meanings)
    def claim(one: dict[str, Any], other: dict[str, Any], metric: Meaning) -> None:
        other |= {name: one[name] for name in ("latency_p95_ms", "size_mb")}
        there = several(gate, {"tone": one, "topic": other}, metric)
        back = several(gate, {"topic": other, "tone": one}, metric)
        assert sorted(map(str, there.clauses)) == sorted(map(str, back.clauses))
        both = judged(gate, one, metric).accepted and judged(gate, other, metric).accepted
        assert there.accepted == back.accepted == both
        names = {"tone retention", "topic retention", "tone control", "topic baseline", "latency", "size"}
        assert names <= set(words_of(there))
        assert words_of(there)["topic flips"].startswith("topic flips: quantisation")

    claim()


def better_than_the_champion_is_strictly_better_and_never_decides_acceptance(gate: Gate) -> None:
    @given(sound, meanings, rivals)
    def claim(found: dict[str, Any], metric: Meaning, over: Interval | None) -> None:
        verdict = judged(gate, found, metric, over)
        assert verdict.accepted
        if over is None:
            assert verdict.champion is None
        else:
            better = over.value > 0 if metric.higher_is_better else over.value < 0
            assert (verdict.champion.version, verdict.champion.better) == ("3", better)

    claim()


def a_model_earns_what_verdict_and_policy_say(gate: Gate) -> None:
    better, equal = Interval(0.01, -0.1, 0.1), Interval(0.0, -0.1, 0.1)
    good = {name: limit for name, (limit, _) in LIMITS.items()} | dict.fromkeys(OVER, equal)
    alias = {
        (accepted, name, policy): gate["decide"](
            judged(gate, good | ({} if accepted else {"size_mb": 21.0}), SCORE, over), policy
        )
        for accepted in (True, False)
        for name, over in {"first": None, "better": better, "not better": equal}.items()
        for policy in ("never", "manual", "if-better")
    }
    champions = {(True, "first", "if-better"), (True, "better", "if-better")}
    assert {case for case, earned in alias.items() if earned == "champion"} == champions
    assert {case for case, earned in alias.items() if earned is None} == {case for case in alias if not case[0]}
    assert set(alias.values()) == {"champion", "challenger", None}


def what_is_said_shows_figure_limit_and_side(gate: Gate) -> None:
    near, wide = Interval(-2.3e-5, -4.1e-5, 0.5e-5), Interval(0.2, -0.1, 0.5)
    found = {"retention": 0.97, "agreement": 0.79996, "flips": 0.02, "latency_p95_ms": 5.001, "size_mb": 18.0}
    words = words_of(judged(gate, found | {"over_control": near, "over_baseline": wide}, SCORE))
    assert words["retention"] == "retention: keeps 97.0% of the teacher's macro-F1; at least 95.0%"
    assert words["agreement"].endswith("on 79.9960% of rows; at least 80.0000%")
    assert words["latency"] == "latency: answers within 5.0010 ms (p95); at most 5.0000 ms"
    assert words["size"] == "size: weighs 18.0 MB; at most 20.0 MB"
    assert "-0.000023 macro-F1" in words["control"]
    assert words["baseline"].endswith("95 % interval -0.100 to +0.500; must not lie below 0")
    exact = words_of(judged(gate, {**found, "agreement": 0.8, **dict.fromkeys(OVER, Interval(0.1, 0.1, 0.1))}, SCORE))
    assert exact["agreement"].endswith("on 80.0% of rows; at least 80.0%")
    assert "+0.100 to +0.100" in exact["control"]
    far = words_of(judged(gate, {**found, "retention": 0.5, "size_mb": 20.04, **dict.fromkeys(OVER, wide)}, ERROR))
    assert far["retention"] == (
        "retention: keeps 50.0% of the teacher's gain in MAE over the plain forecast; at least 95.0%"
    )
    assert far["size"] == "size: weighs 20.0400 MB; at most 20.0000 MB"
    assert far["control"].endswith("must not lie above 0")
    none = dict.fromkeys(("retention", "agreement"), math.nan) | dict.fromkeys(OVER, Interval(0.1, -math.inf, math.inf))
    untold = words_of(judged(gate, found | none, SCORE))
    assert untold["retention"] == "retention: the teacher gains nothing over the plain forecast"
    assert untold["agreement"] == "agreement: it can't be told"
    assert "-inf to +inf" in untold["control"]


def a_verdict_comes_back_from_its_text(gate: Gate) -> None:
    good = {name: limit for name, (limit, _) in LIMITS.items()} | dict.fromkeys(OVER, Interval(0.0, -0.1, 0.1))
    for over in (None, Interval(0.1, 0.0, 0.2)):
        verdict = judged(gate, good, SCORE, over)
        assert gate["Verdict"].from_json(verdict.to_json()) == verdict


# The quick ones first.
CLAIMS = (
    a_model_earns_what_verdict_and_policy_say,
    what_is_said_shows_figure_limit_and_side,
    a_verdict_comes_back_from_its_text,
    better_than_the_champion_is_strictly_better_and_never_decides_acceptance,
    each_clause_holds_as_the_recipe_says_and_accepted_means_all_do,
    the_order_of_tasks_is_immaterial_and_each_counts,
    what_is_worse_is_never_accepted_where_the_better_was_refused,
)
REAL: Gate = {**vars(contract), "decide": register.decide}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_the_gate_holds(claim: Callable[[Gate], None]):
    claim(REAL)


# Mutation: what a comparison becomes.
NEGATED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
# Off by the limit itself.
SHIFTED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}


@dataclass(frozen=True)
class Mutant:
    """A source with one branch changed."""

    name: str
    tree: ast.Module


def inverted(node: ast.expr) -> ast.expr:
    return node.operand if isinstance(node, ast.UnaryOp) else ast.UnaryOp(ast.Not(), node)


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Every way in which a comparison or a branch is inverted, left out or off by one."""
    if isinstance(node, ast.Compare):
        for table in (NEGATED, SHIFTED):
            if type(node.ops[0]) in table:
                yield ast.Compare(node.left, [table[type(node.ops[0])]()], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        for place, value in enumerate(node.values):
            others = [*node.values[:place], *node.values[place + 1 :]]
            yield ast.BoolOp(node.op, [*node.values[:place], inverted(value), *node.values[place + 1 :]])
            yield others[0] if len(others) == 1 else ast.BoolOp(node.op, others)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.If):
        yield ast.If(inverted(node.test), node.body, node.orelse)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(inverted(node.test), node.body, node.orelse)
    elif isinstance(node, ast.comprehension) and node.ifs:
        yield ast.comprehension(node.target, node.iter, [inverted(node.ifs[0]), *node.ifs[1:]], node.is_async)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)


class Place(ast.NodeTransformer):
    """Puts a node in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else self.generic_visit(node)


def mutants(path: Path, functions: set[str] | None = None) -> Iterator[Mutant]:
    """The source with each branch of its functions changed in turn."""
    whole = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    chosen = [node for node in whole.body if isinstance(node, kinds) and (not functions or node.name in functions)]
    for function in chosen:
        for number, node in enumerate(part for statement in function.body for part in ast.walk(statement)):
            for way, _ in enumerate(changes(node)):
                tree = copy.deepcopy(whole)
                twin = next(n for n in tree.body if isinstance(n, kinds) and n.name == function.name)
                old = [part for statement in twin.body for part in ast.walk(statement)][number]
                new = list(changes(old))[way]
                name = f"{function.name}: {shown(old)} -> {shown(new)}"
                yield Mutant(name, ast.fix_missing_locations(Place(old, new).visit(tree)))


def shown(node: ast.AST) -> str:
    test = node.test if isinstance(node, ast.If) else node
    return ast.unparse(test)


def survives(gate: Gate) -> bool:
    """Whether every claim holds; few examples are enough where each branch counts in many of them."""
    for claim in CLAIMS:
        try:
            claim(gate)
        except Exception:  # noqa: BLE001 - a branch that breaks is found out, too
            return False
    return True


def gate_of(mutant: Mutant, module: Any) -> Gate:
    namespace = {"__name__": "mutant", **({} if module is contract else vars(module))}
    exec(compile(mutant.tree, "mutant", "exec"), namespace)
    return REAL | namespace


@pytest.mark.parametrize(("module", "functions", "least"), [(contract, None, 50), (register, {"decide"}, 8)])
def test_no_inverted_branch_survives(module: Any, functions: set[str] | None, least: int):
    quick = settings(
        max_examples=150,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    settings.register_profile("mutation", quick)
    settings.load_profile("mutation")
    try:
        found = list(mutants(Path(module.__file__), functions))
        assert survives(gate_of(Mutant("unchanged", ast.parse(Path(module.__file__).read_text())), module))
        survivors = [mutant.name for mutant in found if survives(gate_of(mutant, module))]
    finally:
        settings.load_profile("default")
    assert len(found) >= least
    assert not survivors
