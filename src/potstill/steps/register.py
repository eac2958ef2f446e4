"""Register: what becomes of a judged model. The registry itself is elsewhere; here is only the decision."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from potstill.evaluate.contract import Verdict
from potstill.evaluate.names import FIGURES, SUMMARY, VERDICT
from potstill.evaluate.report import write_report
from potstill.recipe import Promote
from potstill.store import write_text

Alias = Literal["champion", "challenger"]
# What a version's tags say about where it comes from.
LINEAGE = ("dataset_digest", "teacher_digest", "signals_digest", "control_digest", "student_digest", "first_digest")


@dataclass(frozen=True)
class Evaluation:
    """What evaluate wrote."""

    verdict: Verdict
    summary: dict[str, Any]
    figures: dict[str, str]

    @property
    def lineage(self) -> dict[str, str]:
        """Digests of everything that the model was made from."""
        return {name: self.summary[name] for name in LINEAGE if name in self.summary}

    @property
    def quality(self) -> dict[str, str]:
        """The deciding metric of the model that is registered: its name and its figure."""
        metric = next(iter(self.summary["metrics"]))
        return {"metric": metric, "quality": f"{self.summary['models']['edge'][metric]:.4f}"}

    @property
    def metrics(self) -> dict[str, float]:
        """Each model's figures as `model_figure`."""
        return {
            f"{model}_{figure}": value
            for model, figures in self.summary["models"].items()
            for figure, value in figures.items()
            if value is not None
        }


def read_evaluation(folder: Path) -> Evaluation:
    """Read a folder that evaluate wrote."""
    verdict, summary, figures = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in (VERDICT, SUMMARY, FIGURES)
    )
    return Evaluation(Verdict.from_json(json.dumps(verdict)), summary, figures)


def decide(verdict: Verdict, promote: Promote) -> Alias | None:
    """The alias that a model earns; none if the contract refused it.

    If a run may promote, the first accepted model becomes champion; a later one only if it is better than the champion
    on the same rows. Otherwise it waits as a challenger.
    """
    if not verdict.accepted:
        return None
    if promote != "if-better":
        return "challenger"
    return "champion" if verdict.champion is None or verdict.champion.better else "challenger"


def told(verdict: Verdict, model: str, version: str | None, alias: str | None, promote: Promote) -> str:
    """One line for a person."""
    if version is None:
        return f"refused: {'; '.join(verdict.reasons)}"
    waits = "; it waits for a person's approval in MLflow" if (alias, promote) == ("challenger", "manual") else ""
    return f"{model} version {version}{f', {alias}' if alias else ''}{waits}"


def rehearsed(model: str, alias: Alias | None, known: str | None) -> str:
    """What a dry run says in a registered version's place, so loud that nobody takes it for one.

    Args:
        model: name in the registry.
        alias: what the new one earns; none if the contract refused it.
        known: the version that holds this very model already, if there is one.
    """
    dry = "DRY RUN, NOTHING IS REGISTERED OR MOVED:"
    if alias is None:
        return f"{dry} THE CONTRACT WOULD HAVE REFUSED THIS MODEL"
    if known is not None:
        return f"{dry} THIS MODEL IS VERSION {known} OF {model} ALREADY"
    return f"{dry} THIS MODEL WOULD HAVE BECOME {alias.upper()} OF {model}"


def write_outcome(
    evaluation: Evaluation, version: str | None, alias: str | None, dry_run: str | None, summary: Path, report: Path
) -> dict[str, Any]:
    """Write the summary, completed with version and alias or a dry run's words, and the report; return the summary."""
    complete = {**evaluation.summary, "version": version, "alias": alias, "dry_run": dry_run}
    write_text(summary, json.dumps(complete, indent=1, ensure_ascii=False))
    write_report(report, complete, evaluation.figures)
    return complete
