"""`python docs/generate` writes what is generated in docs; with `--check` it says whether it is current."""

import sys
from pathlib import Path

import configuration
import crd
import models

DOCS = Path(__file__).resolve().parents[1]


def main(arguments: list[str]) -> int:
    """Write the pages, or say which are not current."""
    configured = DOCS / "configuration.md"
    reference = DOCS / "crd.md"
    made = {
        configured: configuration.page(configured.read_text(encoding="utf-8")),
        DOCS / "models.md": models.page(),
        reference: crd.page((DOCS.parent / "crds/embeddingmodels.yaml").read_text(encoding="utf-8")),
    }
    stale = [
        path for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        if "--check" in arguments:
            print(f"docs/{path.name} is not current: run `make generate`", file=sys.stderr)
        else:
            path.write_text(made[path], encoding="utf-8")
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
