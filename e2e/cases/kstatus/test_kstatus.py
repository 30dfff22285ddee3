"""Pain 5, kserve#1859, #1791, #4626 (Ready while broken): tools that know nothing of us judge rightly.

Flux waits by kstatus, which is built here from its own module; `kubectl wait` reads a condition.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e import kstatus
from e2e.cases.conftest import ROOT
from e2e.cases.kubectl import Kubectl, model
from e2e.kstatus import Judgement

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
WRITTEN = sorted((ROOT / "manifests/argocd").rglob("testdata/*.yaml"))  # the unit tests hold them to the code
EXPECTED = {
    "unseen": "InProgress",
    "changed": "InProgress",
    "downloading": "InProgress",
    "starting": "InProgress",
    "scaling": "InProgress",
    "ready": "Current",
    "scaled-to-zero": "Current",
    "paused": "Current",
    "suspended": "InProgress",
    "not-found": "Failed",
    "rolled-back": "Failed",
}


@pytest.fixture(scope="module")
def program() -> Path:
    return kstatus.program()


def test_every_state_that_the_operator_writes_is_judged_rightly(program: Path) -> None:
    found = kstatus.judge(program, [yaml.safe_load(path.read_text()) for path in WRITTEN])
    assert {path.stem: answer.status for path, answer in zip(WRITTEN, found, strict=True)} == EXPECTED


def test_a_resource_is_in_progress_from_its_creation_until_it_serves(kubectl: Kubectl, program: Path) -> None:
    body = model("judged", RERANKER)
    created = json.loads(kubectl("create", "-f", "-", "-o", "json", stdin=yaml.safe_dump(body)))
    seen = kstatus.judge(program, [created])

    def current() -> Any:
        seen.append(_judged(kubectl, program, "judged"))
        return seen[-1].status != "InProgress"

    kubectl.wait("another judgement than InProgress", current, 180)
    assert {answer.status for answer in seen[:-1]} == {"InProgress"}
    assert seen[-1].status == "Current"
    assert kubectl.condition("judged", "Ready")["status"] == "True"
    kubectl("wait", "--for=condition=Ready", "em/judged", "--timeout=1s")
    assert kubectl.answer("http://judged/rerank", {"query": "a", "documents": ["b"]}).status == 200


def test_a_change_is_in_progress_before_the_operator_has_seen_it(kubectl: Kubectl, program: Path) -> None:
    patch = '{"spec": {"replicas": 0}}'
    changed = json.loads(kubectl("patch", "em", "judged", "--type=merge", "--patch", patch, "-o", "json"))
    assert kstatus.judge(program, [changed])[0].status == "InProgress"
    kubectl.wait("Current", lambda: _judged(kubectl, program, "judged").status == "Current", 90)
    assert kubectl.condition("judged", "Ready")["reason"] == "ScaledToZero"


def test_what_only_a_person_can_mend_has_failed(kubectl: Kubectl, program: Path) -> None:
    kubectl.apply(model("missing", "embedding-operator/no-such-model"))
    kubectl.wait_for_condition("missing", "Stalled", "True", "ModelNotFound")
    found = _judged(kubectl, program, "missing")
    assert found.status == "Failed"
    assert "spec.model.id" in found.message


def _judged(kubectl: Kubectl, program: Path, name: str) -> Judgement:
    (found,) = kstatus.judge(program, [kubectl.get("em", name) or {}])
    return found
