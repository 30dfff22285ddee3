"""Where a prefetch Job stands, and what its result says."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_operator import facts, naming
from embedding_operator.cache import prefetch
from embedding_operator.cache.prefetch import (
    Done,
    Failed,
    Lost,
    Missing,
    Pending,
    Resolved,
    Retrying,
    Running,
    State,
)
from embedding_operator.facts import Facts, Failure, Resolution
from embedding_operator.resources import cache
from tests.unit.operator import samples

EM = samples.model()


def job(*conditions: str, **annotations: str) -> dict[str, Any]:
    body = cache.job(EM, samples.RUNTIME)
    body["metadata"]["creationTimestamp"] = "2026-01-01T12:00:00Z"
    body["metadata"]["annotations"] |= annotations
    body["status"] = {
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T12:05:00Z"}
            for kind in conditions
        ]
    }
    return body


def pod(state: dict[str, Any], phase: str) -> dict[str, Any]:
    return samples.pod(
        "p", phase=phase, containerStatuses=samples.container_status(naming.PREFETCH_CONTAINER, state)
    )


def ended(result: dict[str, Any] | str | None, code: int = 0, **rest: str) -> dict[str, Any]:
    message = result if isinstance(result, str) else json.dumps(result) if result else ""
    state = {"terminated": {"exitCode": code, "message": message} | rest}
    return pod(state, "Failed" if code else "Succeeded")


PERMANENT = samples.error("AccessDenied", "401", permanent=True)
TRANSIENT = samples.error("HubUnreachable", "no route", permanent=False)


@pytest.mark.parametrize(
    ("body", "pods", "expected"),
    [
        pytest.param(None, [], Missing, id="no job"),
        pytest.param(job(), [], Pending, id="no pod yet"),
        pytest.param(job(), [samples.pod("p", phase="Pending")], Pending, id="pod being set up"),
        pytest.param(job(), [pod({"running": {}}, "Running")], Running, id="running"),
        pytest.param(job(), [ended(samples.ok())], Done, id="pod done before the job says so"),
        pytest.param(job("Complete"), [ended(samples.ok())], Done, id="done"),
        pytest.param(
            job("Complete", **{naming.RESULT_ANNOTATION: json.dumps(samples.ok())}),
            [],
            Done,
            id="pod gone, result kept",
        ),
        pytest.param(job("Complete"), [ended(samples.resolved())], Resolved, id="asked and answered"),
        pytest.param(job("Complete"), [], Lost, id="pod gone, result lost"),
        pytest.param(job("Complete"), [ended("not json")], Lost, id="unreadable result"),
        pytest.param(job(), [ended(TRANSIENT, 4)], Retrying, id="between two attempts"),
        pytest.param(job(), [ended(None, 137, reason="OOMKilled")], Retrying, id="killed, to be repeated"),
        pytest.param(
            job(), [ended(TRANSIENT, 4), pod({"running": {}}, "Running")], Running, id="next attempt"
        ),
        pytest.param(
            job(),
            [pod({"terminated": {"exitCode": 3, "message": json.dumps(PERMANENT)}}, "Running")],
            Retrying,
            id="container ended, pod not yet",
        ),
        pytest.param(job("Failed"), [ended(PERMANENT, 3)], Failed, id="permanent"),
        pytest.param(job("Failed"), [ended(TRANSIENT, 4)], Failed, id="exhausted"),
        pytest.param(job("Failed"), [], Failed, id="failed without a word"),
    ],
)
def test_a_job_stands_where_its_conditions_and_pods_say(
    body: dict[str, Any] | None, pods: list[dict[str, Any]], expected: type[State]
) -> None:
    assert type(prefetch.state(body, pods)) is expected


def test_the_result_is_what_the_pod_said() -> None:
    state = prefetch.state(job("Complete"), [ended(samples.ok())])
    assert state == Done(samples.facts(EM))


def test_a_failure_keeps_its_class_words_and_time() -> None:
    state = prefetch.state(job("Failed", **{naming.ATTEMPT_ANNOTATION: "3"}), [ended(PERMANENT, 3)])
    assert isinstance(state, Failed)
    assert state.failure == Failure("AccessDenied", "401", permanent=True)
    assert (state.at.isoformat(), state.attempt) == ("2026-01-01T12:05:00+00:00", 3)


def test_a_pod_killed_for_memory_says_so() -> None:
    state = prefetch.state(job("Failed"), [ended(None, 137, reason="OOMKilled")])
    assert isinstance(state, Failed)
    assert state.failure.reason == "OOMKilled"
    assert not state.failure.permanent


def test_what_a_job_was_asked_for_is_read_from_its_template() -> None:
    em = samples.model(model={"id": "a/b", "revision": "v1", "file": "onnx/m.onnx"})
    request = prefetch.request(cache.job(em, samples.RUNTIME))
    assert request == facts.Request("a/b", "onnx/m.onnx", naming.claim(em), naming.job(em))


@pytest.mark.parametrize(
    ("log", "phase"),
    [
        ("", None),
        ("plain words\n", None),
        ('{"event":"other"}\n', None),
        (
            '{"event":"progress","phase":"resolving"}\n{"event":"progress","phase":"downloading"}\n',
            "downloading",
        ),
        ('{"event":"progress","phase":"downloading","bytes":1}\n{"event":"progr', "downloading"),
        ('{"event":"progress","phase":"waiting","bytes":-1,"total":null}\nplain words', "waiting"),
    ],
)
def test_the_last_progress_line_counts(log: str, phase: str | None) -> None:
    found = prefetch.progress(log)
    assert (found.phase if found else None) == phase


@pytest.mark.parametrize(
    ("log", "until"),
    [
        ("", None),
        ('{"event":"progress","phase":"waiting"}\nplain words\n', None),
        ('{"event":"pause","until":"2026-01-01T12:05:00+00:00"}\n{"event":"progress"}\n', "12:05"),
        ('{"event":"pause","until":"2026-01-01T12:05:00"}\n', None),
        ('{"event":"pause","until":9}\n', None),
    ],
)
def test_the_pause_that_a_hub_asked_for_is_read_from_the_log(log: str, until: str | None) -> None:
    found = prefetch.pause(log)
    assert (found.strftime("%H:%M") if found else None) == until


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
)
results = st.fixed_dictionaries(
    {"status": st.sampled_from(["ok", "error", "resolved", "?"]) | json_values},
    optional=dict.fromkeys(
        ("model", "commit", "fingerprint", "task", "dimensions", "maxTokens", "bytes", "error"), json_values
    ),
)


@given(st.text(max_size=20) | json_values.map(json.dumps) | results.map(json.dumps))
def test_no_result_breaks_the_operator(text: str) -> None:
    request = facts.Request("m", None, "c", "j")
    found = facts.from_result(text, request)
    assert found is None or isinstance(found, Facts | Failure | Resolution)
    facts.from_annotation(text)
    prefetch.progress(text)
    prefetch.pause(text)


def test_facts_survive_the_annotation() -> None:
    known = samples.facts(EM)
    assert facts.from_annotation(known.to_json()) == known
    assert facts.from_annotation('{"model":"of another version"}') is None
