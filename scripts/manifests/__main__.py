"""Render every overlay with the locked images into a folder, and refuse what a cluster should not run.

Usage:

python scripts/manifests build/manifests
"""

import sys
from pathlib import Path

import policies
import references
import schemas
import yaml
from render import Manifest, render, secrets, with_images

from potstill.errors import UserError
from potstill.images import read_lock

MANIFESTS = Path(__file__).parents[2] / "manifests"


def faults(manifests: list[Manifest], given: dict[str, set[str]]) -> list[str]:
    """All that is wrong with an overlay, a line each.

    Args:
        manifests: its objects.
        given: names and keys of the Secrets that a person makes.
    """
    wrong_form = list(schemas.faults(manifests))
    # The other checks rely on the form.
    return wrong_form or [*references.faults(manifests, given), *policies.faults(manifests)]


def main(lock_file: Path, target: Path) -> None:
    """Write the overlays in which nothing is wrong; say what is wrong in others, and end with 1."""
    lock, given, wrong = read_lock(lock_file), secrets(MANIFESTS / "secrets"), 0
    target.mkdir(parents=True, exist_ok=True)
    for overlay in sorted(path.parent for path in MANIFESTS.glob("overlays/*/kustomization.yaml")):
        manifests = with_images(render(overlay), lock)
        found = faults(manifests, given)
        for fault in found:
            print(f"{overlay.name}: {fault}", file=sys.stderr)
        wrong += len(found)
        write(target / f"{overlay.name}.yaml", [] if found else manifests)
    if wrong:
        sys.exit(1)


def write(file: Path, manifests: list[Manifest]) -> None:
    """Put objects into a file; without any, what an earlier run left there goes."""
    if not manifests:
        file.unlink(missing_ok=True)
        return
    draft = file.with_suffix(".tmp")
    draft.write_text(yaml.safe_dump_all(manifests, sort_keys=False, allow_unicode=True), encoding="utf-8")
    draft.replace(file)
    print(f"{file}: {len(manifests)} objects")


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:]))
    except UserError as error:
        sys.exit(f"manifests: {error}")
