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

    def name(self, base_image: str, root: Path = ROOT) -> str:
        """Return the image's name: the version and 12 hex digits of everything that it is made from."""
        files = [root / name for name in (self.dockerfile, *self.sources)]
        return f"{self.repository}:{VERSION}-{digest(base_image, *files)}{self.suffix}"


OPERATOR = Product(
    "embedding-operator",
    "Dockerfile.operator",
    ("requirements/build.txt", "requirements/operator.txt", "operator"),
)
RUNTIME = Product(
    "embedding-runtime",
    "Dockerfile.runtime",
    ("requirements/build.txt", "requirements/runtime.txt", "requirements/token-ids.txt", "runtime"),
    "-cpu",
)


@dataclass(frozen=True)
class Image:
    """A product's image with the files that its name was made from, safe from edits while it is built."""

    product: Product
    base_image: str
    context: Path
    name: str

    @property
    def step(self) -> str:
        """The name of the step that builds it."""
        return f"build-{self.product.repository}"


def snapshot(product: Product, base_image: str, folder: Path) -> Image:
    """Copy what an image is made of into `folder`, and this machine's certificates if it has its own.

    The certificates are used by the stage that downloads packages and do not get into the image.
    """
    context = folder / product.repository
    shutil.rmtree(context, ignore_errors=True)
    for name in (product.dockerfile, *product.sources):
        for path in content(ROOT / name):
            target = context / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    name = product.name(base_image, context)
    bundle = next((os.environ[name] for name in CA_VARIABLES if os.environ.get(name)), None)
    if bundle and Path(bundle).is_file():
        shutil.copy(bundle, context / CA_FILE)
    return Image(product, base_image, context, name)


def build(image: Image, engine: Engine, log: Log) -> None:
    """Build the image."""
    arguments = [f"--build-arg=BASE_IMAGE={image.base_image}"]
    arguments += [f"--build-arg={name}={os.environ[name]}" for name in PASSED_ON if os.environ.get(name)]
    arguments += [
        f"--tag={engine.reference(image.name)}",
        f"--file={image.context / image.product.dockerfile}",
    ]
    log.run([engine.program, "build", *arguments, image.context])
    _forget_old(image.product, engine, log)


def missing(image: str, nodes: list[str], engine: Engine) -> list[str]:
    """Return the nodes that do not have the image yet."""
    question = ["crictl", "inspecti", "-q", f"docker.io/library/{image}"]
    return [node for node in nodes if not succeeds([engine.program, "exec", node, *question])]


def load(image: str, cluster: str, nodes: list[str], kind: Path, engine: Engine, log: Log) -> None:
    """Load an image into those of the nodes that lack it.

    Raises:
        CommandError: a node still lacks it afterwards.
    """
    if not (lacking := missing(image, nodes, engine)):
        return
    common = [f"--name={cluster}", f"--nodes={','.join(lacking)}"]
    reference = engine.reference(image)
    if engine.program == "docker":
        log.run([kind, "load", "docker-image", *common, reference])
    else:
        with tempfile.TemporaryDirectory(prefix="image-") as folder:
            archive = Path(folder, "image.tar")
            log.run([engine.program, "save", f"--output={archive}", reference])
            log.run([kind, "load", "image-archive", *common, archive])
    if still := missing(image, nodes, engine):
        raise CommandError(f"after loading, {', '.join(still)} still lack {image}")


def _forget_old(product: Product, engine: Engine, log: Log) -> None:
    """Remove the tags of older content; docker lists images newest first."""
    listed = answer([engine.program, "images", "--format", "{{.Repository}}:{{.Tag}}", product.repository])
    for old in [name for name in listed.splitlines() if f":{VERSION}-" in name][KEPT:]:
        if not succeeds([engine.program, "rmi", old]):
            log.say(f"{old} is in use and stays")
