"""Settings: what is understood, and how mistakes are told."""

from pathlib import Path

import pytest

from embedding_runtime.errors import SettingsError
from embedding_runtime.settings import LogFilter, PrefetchSettings, ServeSettings, parse_filter


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (ServeSettings, PrefetchSettings):
        for name, field in kind.model_fields.items():
            monkeypatch.delenv(field.alias or name.upper(), raising=False)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_the_documented_defaults_hold() -> None:
    settings = ServeSettings.load()
    assert (settings.api_host, settings.api_port, settings.api_workers) == ("0.0.0.0", 8090, 4)
    assert settings.shutdown_timeout_secs == 30
    assert settings.default_embedding_model == "BAAI/bge-small-en-v1.5"
    assert settings.default_reranking_model is None
    assert (settings.max_embedding_batch_size, settings.max_reranking_batch_size) == (256, 64)
    assert settings.ort_execution_provider == "auto"


def test_every_variable_is_understood_as_the_api_document_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    written = """
        API_HOST=0.0.0.0
        API_PORT=8090
        API_WORKERS=4
        SHUTDOWN_TIMEOUT_SECS=30
        DEFAULT_EMBEDDING_MODEL=BAAI/bge-small-en-v1.5
        DEFAULT_RERANKING_MODEL=BAAI/bge-reranker-base
        HF_HOME=/root/.cache/huggingface
        HUGGING_FACE_HUB_TOKEN=your-token
        ORT_EXECUTION_PROVIDER=cuda
        MAX_EMBEDDING_BATCH_SIZE=256
        MAX_RERANKING_BATCH_SIZE=64
        ORT_NUM_THREADS=4
        OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317
        OTEL_SERVICE_NAME=embedding-inference-api
        OTEL_SERVICE_VERSION=1.0.0
        RUST_LOG=info,embedding_inference_api=debug
        LOG_FORMAT=json
    """
    variables = dict(line.strip().split("=", 1) for line in written.strip().splitlines())
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = ServeSettings.load()
    assert settings.token == variables.pop("HUGGING_FACE_HUB_TOKEN")
    fields = {field.alias: name for name, field in ServeSettings.model_fields.items()}
    found = {name: getattr(settings, fields[name]) for name in variables}
    assert {
        name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in found.items()
    } == (variables)
    assert settings.log_filter == LogFilter("INFO", {"embedding_runtime": "DEBUG"})


def test_an_empty_model_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_EMBEDDING_MODEL", "")
    assert ServeSettings.load().default_embedding_model == ""


def test_any_other_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_PORT", "HF_ENDPOINT", "MODEL_FILE", "HF_HUB_OFFLINE", "ORT_NUM_THREADS"):
        monkeypatch.setenv(name, "")
    settings = ServeSettings.load()
    assert settings.api_port == 8090
    assert settings.hf_endpoint == "https://huggingface.co"


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_the_token_is_read_under_both_names_and_never_shown(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "hf_secret")
    settings = ServeSettings.load()
    assert settings.token == "hf_secret"
    assert "hf_secret" not in repr(settings)


def test_an_empty_token_does_not_hide_the_other_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "hf_secret")
    assert ServeSettings.load().token == "hf_secret"


def test_a_token_out_of_a_file_may_end_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret\n")
    assert ServeSettings.load().token == "hf_secret"


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_a_token_that_is_none_is_refused_without_being_shown(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "hf_secret and more")
    with pytest.raises(SettingsError) as caught:
        ServeSettings.load()
    (line,) = caught.value.mistakes
    assert line == f"{name}=***: allowed is a token of printable characters, without spaces"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("API_PORT", "http", "a valid integer"),
        ("API_PORT", "70000", "less than or equal to 65535"),
        ("API_WORKERS", "0", "greater than or equal to 1"),
        ("SHUTDOWN_TIMEOUT_SECS", "soon", "a valid number"),
        ("ORT_EXECUTION_PROVIDER", "tpu", "'auto', 'cpu', 'openvino' or 'cuda'"),
        ("LOG_LEVEL", "loud", "off, error, warn, info"),
        ("HF_HUB_OFFLINE", "perhaps", "1, 0, true, false"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "soon", "a valid integer"),
        ("HF_ENDPOINT", "ftp://hub", "an http:// or https:// address"),
        ("DEFAULT_EMBEDDING_MODEL", "two words", "a model id such as"),
        ("DEFAULT_RERANKING_MODEL", "a/b/c", "a model id such as"),
        ("MODEL_FILE", "../../etc/passwd", "ends in .onnx"),
        ("MODEL_FILE", "onnx/../../model.onnx", "ends in .onnx"),
        ("MODEL_FILE", "/model.onnx", "ends in .onnx"),
        ("EXPECTED_FINGERPRINT", "abc", "64 hexadecimal digits"),
    ],
)
def test_a_mistake_names_variable_value_and_what_is_allowed(
    name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        ServeSettings.load()
    (line,) = caught.value.mistakes
    assert line.startswith(f"{name}={value}: allowed is ")
    assert allowed in line


def test_every_mistake_gets_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_PORT", "x")
    monkeypatch.setenv("API_WORKERS", "y")
    with pytest.raises(SettingsError) as caught:
        ServeSettings.load()
    assert len(caught.value.mistakes) == 2


def test_a_fingerprint_for_two_models_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPECTED_FINGERPRINT", "a" * 64)
    monkeypatch.setenv("DEFAULT_RERANKING_MODEL", "some/reranker")
    with pytest.raises(SettingsError, match="one default model only"):
        ServeSettings.load()


def test_a_missing_model_id_is_a_mistake() -> None:
    with pytest.raises(SettingsError, match="MODEL_ID is not set"):
        PrefetchSettings.load()


def test_the_cache_lies_in_hf_home_unless_it_has_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/models")
    assert ServeSettings.load().cache_dir == Path("/models/hub")
    monkeypatch.setenv("HF_HUB_CACHE", "/elsewhere")
    assert ServeSettings.load().cache_dir == Path("/elsewhere")


@pytest.mark.parametrize(
    ("value", "folders"),
    [
        (None, ["/models/prepared"]),
        ("/own", ["/own", "/models/prepared"]),
        ("/models/prepared", ["/models/prepared"]),
        ("", []),
    ],
)
def test_prepared_graphs_lie_where_it_is_said_and_beside_the_cache(
    value: str | None, folders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", "/models")
    if value is not None:
        monkeypatch.setenv("PREPARED_CACHE_DIR", value)
    assert ServeSettings.load().prepared_dirs == tuple(Path(folder) for folder in folders)


def test_an_empty_value_means_none_for_a_model_and_unset_for_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_RERANKING_MODEL", "")
    monkeypatch.setenv("METRICS_PORT", "")
    settings = ServeSettings.load()
    assert (settings.default_reranking_model, settings.metrics_port) == ("", None)


@pytest.mark.parametrize(
    ("text", "root", "targets"),
    [
        ("info", "INFO", {}),
        ("WARN", "WARNING", {}),
        ("info,embedding_inference_api=debug", "INFO", {"embedding_runtime": "DEBUG"}),
        ("embedding_inference_api::service=trace", "ERROR", {"embedding_runtime.service": "DEBUG"}),
        ("off,uvicorn=error", "CRITICAL", {"uvicorn": "ERROR"}),
        (" info , hyper = warn ,", "INFO", {"hyper": "WARNING"}),
    ],
)
def test_filters_of_the_document_are_mapped_to_our_loggers(
    text: str, root: str, targets: dict[str, str]
) -> None:
    assert parse_filter(text) == LogFilter(root, targets)


@pytest.mark.parametrize("text", ["loud", "info,=debug", "a=b=debug", "embedding_inference_api=loud"])
def test_a_filter_that_is_none_is_a_mistake(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUST_LOG", text)
    with pytest.raises(SettingsError, match=r"^RUST_LOG=.*: allowed is off, error, warn"):
        ServeSettings.load()


def test_log_level_goes_before_rust_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUST_LOG", "error")
    assert ServeSettings.load().log_filter.root == "ERROR"
    monkeypatch.setenv("LOG_LEVEL", "debug")
    assert ServeSettings.load().log_filter.root == "DEBUG"


@pytest.mark.parametrize(
    ("content", "words"), [("", "holds no key"), (" \n", "holds no key"), (None, "cannot be read: No such")]
)
def test_a_key_file_without_keys_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, words: str
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("API_KEY_FILE", str(file))
    with pytest.raises(SettingsError, match=f"^API_KEY_FILE={file}: {words}"):
        ServeSettings.load()
