"""The settings come from the environment, and wrong ones are told by name."""

import pytest
from pydantic import ValidationError

from embedding_operator.__main__ import main
from embedding_operator.settings import Settings


def test_variables_have_the_fields_names_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_IMAGE", "mine:2")
    monkeypatch.setenv("RECONCILE_WORKERS", "7")
    settings = Settings()
    assert (settings.runtime_image, settings.reconcile_workers) == ("mine:2", 7)


def test_a_list_is_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_TEMPLATE_ALLOW", "hostPath, capabilities,")
    assert Settings().pod_template_allow == ("hostPath", "capabilities")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RECONCILE_WORKERS", "0"),
        ("MAX_CONCURRENT_PREFETCHES", "0"),
        ("LOG_FORMAT", "xml"),
        ("RESYNC_SECONDS", "1"),
        ("HEALTH_PORT", "http"),
        ("POD_TEMPLATE_ALLOW", "hostPath,everything"),
    ],
)
def test_a_wrong_value_ends_the_process_with_its_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()
    assert main() == 2
    assert capsys.readouterr().err.startswith(f"{name}: ")
