"""Doctor as a pipeline component: the first step."""

from kfp import dsl

from potstill.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def doctor(source: str, train: str, test: str, store: str, shards: int, recipe_name: str, code_version: str) -> str:
    """Try everything that the run will need, before any work.

    Args:
        source: All rows in one place: a file, a folder or a glob. Empty when train and test are given.
        train: Training rows. Empty when source is given.
        test: Test rows. Empty when source is given.
        store: Folder or s3:// that outlives runs. Empty is none.
        shards: Extractions that will fill one table side by side; several need a store.
        recipe_name: Name of the recipe.
        code_version: Version and digest of the code.

    Returns:
        What was found, a line each.
    """
    from potstill import tracking
    from potstill.doctor import examine, places_of
    from potstill.errors import UserError

    with tracking.step("doctor", recipe_name, {"code_version": code_version}) as log:
        findings = [*examine(store, places_of(source, train, test), shards)]
        words = "\n".join(f"{finding.what}: {finding.words}" for finding in findings)
        print(words)
        log.describe(words)
        if wrong := [finding.words for finding in findings if not finding.passed]:
            raise UserError("; ".join(wrong))
    return words
