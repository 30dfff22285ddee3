"""The product's two images: named after their content, built and loaded only where they are missing."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.engine import Engine
from e2e.cluster.process import CommandError, Log, answer, succeeds
from e2e.cluster.state import ROOT, content, digest

VERSION = "0.1.0"
KEPT = 5  # images of earlier content that stay in the engine's store, for a checkout that goes back and forth
# what decides, on this machine, where packages come from; a company's mirror or proxy, for example
PASSED_ON = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)
CA_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
CA_FILE = "requirements/ca-bundle.crt"


@dataclass(frozen=True)
class Product:
    """One image and the files of the checkout that go into it."""

    repository: str
    dockerfile: str
    sources: tuple[str, ...]
    suffix: str = ""

    def tag(self, base_image: str, root: Path = ROOT) -> str:
        """Return the version and 12 hex digits of everything that the image is made from."""
        files = [root / name for name in (self.dockerfile, *self.sources)]
        return f"{VERSION}-{digest(base_image, *files)}"

    def name(self, base_image: str, root: Path = ROOT) -> str:
        """Return the image's full name."""
        return f"{self.repository}:{self.tag(base_image, root)}{self.suffix}"


OPERATOR = Product(
    "embedding-operator",
    "Dockerfile.operator",
    ("requirements/build.txt", "requirements/operator.txt", "operator"),
)
RUNTIME = Product(
    "embedding-runtime",
    "Dockerfile.runtime",
    ("requirements/build.txt", "requirements/runtime.txt", "runtime"),
    "-cpu",
)


def build(product: Product, base_image: str, engine: Engine, log: Log) -> None:
    """Build the image from exactly the files that its name is made of."""
    name = engine.reference(product.name(base_image))
    arguments = [f"--build-arg=BASE_IMAGE={base_image}"]
    arguments += [f"--build-arg={name}={os.environ[name]}" for name in PASSED_ON if os.environ.get(name)]
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        context = Path(folder)
        lay_out(product, context)
        file = f"--file={context / product.dockerfile}"
        log.run([engine.program, "build", f"--tag={name}", file, *arguments, context])
    _forget_old(product, engine, log)


def lay_out(product: Product, context: Path) -> None:
    """Copy the files that an image is made of, and this machine's certificates if it has its own.

    The certificates are used by the stage that downloads packages and do not get into the image.
    """
    for name in (product.dockerfile, *product.sources):
        for path in content(ROOT / name):
            target = context / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    bundle = next((os.environ[name] for name in CA_VARIABLES if os.environ.get(name)), None)
    if bundle and Path(bundle).is_file():
        shutil.copy(bundle, context / CA_FILE)


def missing(images: list[str], nodes: list[str], engine: Engine) -> list[str]:
    """Return the nodes on which at least one of the images is not there yet."""
    asked = [f"crictl inspecti -q docker.io/library/{image} >/dev/null 2>&1" for image in images]
    script = " && ".join(asked)
    return [node for node in nodes if not succeeds([engine.program, "exec", node, "sh", "-c", script])]


def load(images: list[str], cluster: str, nodes: list[str], kind: Path, engine: Engine, log: Log) -> None:
    """Load images into nodes.

    Raises:
        CommandError: a node still lacks an image afterwards.
    """
    common = [f"--name={cluster}", f"--nodes={','.join(nodes)}"]
    references = [engine.reference(image) for image in images]
    if engine.program == "docker":
        log.run([kind, "load", "docker-image", *common, *references])
    else:
        with tempfile.TemporaryDirectory(prefix="images-") as folder:
            for number, reference in enumerate(references):
                archive = Path(folder, f"{number}.tar")
                log.run([engine.program, "save", f"--output={archive}", reference])
                log.run([kind, "load", "image-archive", *common, archive])
    if still := missing(images, nodes, engine):
        raise CommandError(f"after loading, {', '.join(still)} still lack {', '.join(images)}")


def _forget_old(product: Product, engine: Engine, log: Log) -> None:
    """Remove the tags of older content; docker lists images newest first."""
    listed = answer([engine.program, "images", "--format", "{{.Repository}}:{{.Tag}}", product.repository])
    for old in [name for name in listed.splitlines() if f":{VERSION}-" in name][KEPT:]:
        if not succeeds([engine.program, "rmi", old]):
            log.say(f"{old} is in use and stays")
