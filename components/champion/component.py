"""Champion as a pipeline component."""

from kfp import dsl

from potstill.components.images import CORE


@dsl.component(base_image=CORE, install_kfp_package=False)
def champion(model: str, edge_digest: str, recipe_name: str, code_version: str) -> str:
    """Name the version that the new model has to beat.

    Args:
        model: Name in the registry.
        edge_digest: Digest of the new model; it is never compared with itself.
        recipe_name: Name of the recipe.
        code_version: Version and digest of the code.

    Returns:
        The version's number, or none.
    """
    from potstill import registry, tracking

    with tracking.step("champion", recipe_name, {"code_version": code_version}) as log:
        log.params({"model": model})
        version: str = registry.champion_to_beat(model, edge_digest)
        print("no champion yet" if version == "none" else f"to beat: version {version}")
        log.tags({"champion": version})
    return version
