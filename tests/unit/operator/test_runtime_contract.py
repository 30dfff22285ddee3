"""What the builders hand over is what the runtime reads: the same variables, one model for Job and pods."""

from pathlib import Path
from typing import Any

import pytest

from embedding_operator.cache import prefetch
from embedding_operator.resources import cache, options, resolve
from embedding_operator.resources.deployment import deployment
from embedding_runtime.model.origins import origins
from embedding_runtime.prefetch.job import asked
from embedding_runtime.registry.archive import folder_of
from embedding_runtime.service.configured import configured
from embedding_runtime.settings import PrefetchSettings, ServeSettings
from tests.unit.operator import samples

EM = samples.model(
    "shaped",
    model={"precision": "int8", "maxLength": 128, "pooling": "cls", "normalize": False, "prompts": {"q": ""}},
    servedNames=["text-embedding-3-small"],
    server={
        "workers": 2, "maxEmbeddingBatchSize": 128, "maxRerankingBatchSize": 32, "maxBatchTokens": 16384,
        "maxQueueTokens": 100000, "maxQueueWaitMilliseconds": 5000,
        "numThreads": 4, "logLevel": "debug", "logFormat": "text",
        "otlpEndpoint": "http://collector:4317", "drainDelaySeconds": 10, "shutdownTimeoutSeconds": 90,
    },
)  # fmt: skip


def hand_over(
    body: dict[str, Any], config_map: Any, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> set[str]:
    """The process's environment becomes the container's. Returns the names of its variables."""
    path = folder / options.FILE
    path.write_text(config_map["data"][options.FILE])
    (container,) = body["spec"]["template"]["spec"]["containers"]
    env = {
        item["name"]: item["value"] if "value" in item else _of_the_pod(item["valueFrom"])
        for item in container["env"]
    }
    assert env["MODELS_CONFIG"] == options.PATH
    for name, value in (env | {"MODELS_CONFIG": str(path)}).items():
        monkeypatch.setenv(name, value)
    return set(env)


def _of_the_pod(source: dict[str, Any]) -> str:
    """What the kubelet puts there, of a pod on node worker-7."""
    return {"spec.nodeName": "worker-7"}[source["fieldRef"]["fieldPath"]]


def known(settings: type[ServeSettings | PrefetchSettings]) -> set[str]:
    return {field.alias or name.upper() for name, field in settings.model_fields.items()}


def test_the_server_reads_every_variable_and_serves_every_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    facts = samples.facts(EM)
    body, config_map = deployment(EM, facts, samples.RUNTIME), options.serving(EM, facts)
    names = hand_over(body, config_map, monkeypatch, tmp_path)
    settings = ServeSettings.load()
    assert names - known(ServeSettings) == {"TMPDIR"}
    assert (settings.api_workers, settings.max_batch_tokens, settings.shutdown_timeout_secs) == (2, 16384, 90)
    assert settings.node_name == "worker-7"
    found = configured(settings)
    default = found.default("embed")
    assert default is not None
    assert set(found.named) == {EM.source.id, "shaped", "text-embedding-3-small"}
    assert set(found.named.values()) == {default}
    assert (default.revision, default.fingerprint) == (samples.COMMIT, samples.FINGERPRINT)
    assert found.default("rerank") is None


def test_a_folder_is_the_same_for_job_and_pods(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = {"pvc": {"claimName": "models", "path": "minilm"}}
    em = samples.model("folder", model={"source": source, "maxLength": 64})
    job = cache.job(em, samples.RUNTIME)
    with monkeypatch.context() as patched:
        names = hand_over(job, options.fetching(em), patched, tmp_path)
        assert names - known(PrefetchSettings) == {"TMPDIR"}
        fetched = asked(PrefetchSettings.load())
    facts = samples.facts(em, commit="local", folder=prefetch.request(job).folder)
    hand_over(deployment(em, facts, samples.RUNTIME), options.serving(em, facts), monkeypatch, tmp_path)
    found = configured(ServeSettings.load())
    served = found.default("embed")
    assert served is not None
    assert set(found.named) == {em.source.id, "folder"}
    assert (served.name, served.folder) == (fetched.name, fetched.folder) == (em.source.id, served.folder)
    assert str(served.folder) == "/models/minilm"
    assert served.fingerprint == samples.FINGERPRINT


def test_the_job_that_asks_asks_for_what_is_fetched_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = []
    for job in (resolve.job(EM, samples.RUNTIME, "size", EM.source.at), cache.job(EM, samples.RUNTIME)):
        with monkeypatch.context() as patched:
            names = hand_over(job, options.fetching(EM), patched, tmp_path)
            assert names - known(PrefetchSettings) == {"TMPDIR"}
            found.append(asked(PrefetchSettings.load()))
    assert found[0] == found[1]


def test_a_variant_is_fetched_and_served_out_of_its_own_repository(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    em = samples.model("moved", model={"id": "BAAI/bge-small-en-v1.5@fastembed-py", "maxLength": 64})
    with monkeypatch.context() as patched:
        hand_over(cache.job(em, samples.RUNTIME), options.fetching(em), patched, tmp_path)
        fetched = asked(PrefetchSettings.load())
    facts = samples.facts(em, file="model_optimized.onnx")
    hand_over(deployment(em, facts, samples.RUNTIME), options.serving(em, facts), monkeypatch, tmp_path)
    settings = ServeSettings.load()
    served = configured(settings).default("embed")
    assert served is not None
    assert settings.allowed_patterns == (em.source.id,)
    assert fetched.name == served.name == em.source.id
    assert (fetched.revision, served.revision) == ("main", samples.COMMIT)
    (before,), (after,) = origins(fetched), origins(served)
    assert before.ref.id == after.ref.id == "qdrant/bge-small-en-v1.5-onnx-q"
    assert before.file == after.file == "model_optimized.onnx"
    assert before.overrides == after.overrides
    assert (after.overrides.pooling, after.overrides.max_length) == (("cls",), 64)


def test_an_archive_is_where_the_pods_look_for_its_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = {"url": "https://files.example/a.tar.gz", "sha256": "5f" * 32, "path": "minilm"}
    em = samples.model("archive", model={"source": {"url": url}, "maxLength": 64})
    names = hand_over(cache.job(em, samples.RUNTIME), options.fetching(em), monkeypatch, tmp_path)
    assert names - known(PrefetchSettings) == {"TMPDIR"}
    settings = PrefetchSettings.load()
    root = folder_of(settings.hf_home, settings.model_sha256 or "")
    assert asked(settings).folder == root / "minilm"
    assert settings.model_url == url["url"]


def test_the_job_reads_the_model_as_the_pods_will_serve_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    facts = samples.facts(EM)
    with monkeypatch.context() as patched:
        hand_over(cache.job(EM, samples.RUNTIME), options.fetching(EM), patched, tmp_path)
        fetched = asked(PrefetchSettings.load())
    hand_over(deployment(EM, facts, samples.RUNTIME), options.serving(EM, facts), monkeypatch, tmp_path)
    served = configured(ServeSettings.load()).default("embed")
    assert served is not None
    assert (fetched.overrides, fetched.precision) == (served.overrides, served.precision)
    assert fetched.precision == "int8"
