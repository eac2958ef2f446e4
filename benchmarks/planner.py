"""How well a plan foresees times: three forms are timed, the others foretold and then timed too.

    python benchmarks/planner.py recipes/support-intent.yaml --root .potstill/distillation

Nothing is trained but the teacher, and that only where it is not there yet. All forms are untaught: what weights say
doesn't change a time. Both sides are medians over the same validation rows on one thread.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from potstill.plan.forecast import probes_of
from potstill.plan.forms import Bench, words_of
from potstill.plan.limits import measure_limits
from potstill.plan.predict import Predictor
from potstill.recipe import load_recipe
from potstill.workshop import Workshop

NEAR = 0.2


def main() -> None:
    """Time, foretell, time, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--root", type=Path, default=Path(".potstill/distillation"))
    given = parser.parse_args()
    recipe = load_recipe(given.recipe, given.overrides)
    shop = Workshop(recipe, given.root, code="")
    limits = measure_limits()
    print(f"{limits.words()}\n")
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        bench = Bench(shop.dataset, shop.teacher, recipe.student, recipe.distill, recipe.compress, Path(scratch))
        probes = probes_of(bench.forms)
        timed = {str(form): bench.timed(form)[0] for form in bench.forms}
        predictor = Predictor.fit([timed[str(form)] for form in probes])
        print("| form | foreseen ms | measured ms | off by | of limit |\n|---|---|---|---|---|")
        errors = []
        for form in bench.forms:
            found = timed[str(form)]
            foreseen, measured = (float(np.median(ms)) for ms in (predictor.ms(found.measures, found.tokens), found.ms))
            operations = float(np.median(found.measures.operations(found.tokens)))
            share = limits.least_ms(operations, 4 * found.measures.layer_weights) / measured
            off = foreseen / measured - 1
            errors += [] if form in probes else [abs(off)]
            name = words_of(form) + (" (probe)" if form in probes else "")
            print(f"| {name} | {foreseen:.2f} | {measured:.2f} | {off:+.0%} | {share:.0%} |")
    within = sum(error <= NEAR for error in errors)
    print(
        f"\n{within} of {len(errors)} forms that were not timed first lie within {NEAR:.0%}; largest {max(errors):.0%}"
    )


if __name__ == "__main__":
    main()
