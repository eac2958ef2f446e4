"""Divide as a pipeline component."""

from kfp import dsl

from potstill.components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def divide(
    dataset: dsl.Input[dsl.Dataset],
    dataset_digest: str,
    teacher_digest: str,
    settings: dict,
    shards: int,
    recipe_name: str,
    code_version: str,
) -> list[dict]:
    """Divide the extraction into shards that fill one table side by side.

    Args:
        dataset: What ingest wrote.
        dataset_digest: Its digest.
        teacher_digest: Digest of what teach wrote.
        settings: The other settings of the recipe's signals section.
        shards: How many shards; where the table has fewer parts, as many as those.
        recipe_name: Name of the recipe.
        code_version: Version and digest of the code.

    Returns:
        Of each: variant, and digests of what it reads.
    """
    from pathlib import Path

    from potstill import recipe, sections, tracking
    from potstill.steps.shards import divide as run

    digests = {"dataset_digest": dataset_digest, "teacher_digest": teacher_digest}
    with tracking.step("divide", recipe_name, {"code_version": code_version, **digests}) as log:
        section = sections.checked(recipe.Signals, "signals", {**settings, "shards": shards})
        found = run(Path(dataset.path), section)
        print(f"{len(found)} shards")
        log.metrics({"shards": len(found)})
    # kfp's local runner gives a loop no outputs of tasks before it but through the items.
    return [{"variant": shard.name, **digests} for shard in found]
