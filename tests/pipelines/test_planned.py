"""Runs of a recipe that leaves the student's form open."""

import re
import signal

from potstill.learn.model import load_model
from tests.pipelines.conftest import STEPS, Shop, ran


def test_a_plan_teaches_forms_side_by_side_and_registers_the_cheapest_that_keeps_the_budget(shop: Shop):
    plan = "plan.candidates=3"
    summary = shop.run(plan, "register.model=planned", "budget.retention=0.6")
    told = summary["plan"]
    kinds = ("distill", "compress")
    forms = {name.split("-", 1)[1] for name in summary["steps"] if name.startswith("distill-")}
    assert len(forms) == 3
    assert set(summary["steps"]) == (STEPS - {*kinds}) | {"foresee", "choose"} | {
        f"{k}-{f}" for k in kinds for f in forms
    }
    tried = {one["name"]: one for one in told["tried"]}
    assert len(tried) == 1 + len(forms)
    keeping = [one for one in tried.values() if one["keeps"]]
    chosen = tried[told["chosen"]]
    assert chosen == min(keeping, key=lambda one: one["p50_ms"])
    assert told["words"].startswith(f"{told['chosen']} keeps time, size and retention of the budget")
    # What was chosen is what is judged, explained and registered.
    assert summary["models"]["edge"]["size_bytes"] == chosen["size_bytes"]
    assert (summary["verdict"]["accepted"], summary["version"]) == (True, "1")
    assert shop.client().get_model_version("planned", "1").tags["student_digest"] == summary["student_digest"]
    run = (shop.root / "latest").resolve()
    folders = run / "choose" / "student", run / "control" / "student"
    layers = [load_model(folder)[0].encoder.config.num_hidden_layers for folder in folders]
    assert layers[0] == layers[1] == int(told["chosen"].split()[2])
    report = (shop.root / "latest" / "report.html").read_text()
    assert told["words"] in report
    again = shop.run(plan, "register.model=planned", "budget.retention=0.6")
    assert ran(again) <= {"doctor", "ingest", "champion", "register", "close"}
    assert again["plan"] == told


def test_where_no_form_keeps_the_budget_the_nearest_is_refused_with_the_reason(shop: Shop):
    summary = shop.run("plan.candidates=2", "budget.latency_p95_ms=0.0001")
    assert summary["plan"]["fitting"] == 0
    assert len(summary["plan"]["tried"]) == 2
    assert summary["plan"]["words"].startswith("no form keeps the budget on the validation rows; student of 1 layer")
    assert not summary["verdict"]["accepted"]
    assert any(reason.startswith("latency: ") for reason in summary["verdict"]["reasons"])
    assert "no form keeps the budget" in summary["stdout"]


def test_an_interrupted_plan_begins_no_other_form_and_goes_on_where_it_was(shop: Shop):
    settings = "plan={candidates: 2, side_by_side: 1}", "distill.epochs=9", "distill.patience=9"
    flags = [word for setting in settings for word in ("--set", setting)]
    said = shop.stopped_at(r"distill-\S+ +epoch 2/9", *flags, by=signal.SIGINT)
    forms = {line.split()[0] for line in said.splitlines() if line.startswith("distill-")}
    assert len(forms) == 1, said
    again = shop.run(*settings)["stdout"]
    assert len({line.split()[0] for line in again.splitlines() if line.startswith("distill-")}) == 2
    assert re.search(rf"{forms.pop()} +going on after epoch \d", again), again
