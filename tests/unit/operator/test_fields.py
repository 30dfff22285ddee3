"""Comparing what we want with what is there, by the fields that managedFields give us."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedding_operator.fields import parse_quantity, unchanged
from tests.unit.operator.fakes import Clock, FakeCluster

ME = "embedding-operator"


def observed(fields: dict[str, Any], **body: Any) -> dict[str, Any]:
    entry = {"manager": ME, "operation": "Apply", "fieldsV1": fields}
    return body | {"metadata": body.get("metadata", {}) | {"managedFields": [entry]}}


SERVICE = {
    "spec": {"selector": {"a": "b"}, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
}
SERVICE_FIELDS: dict[str, Any] = {
    "f:spec": {
        "f:selector": {},
        "f:ports": {
            'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}}
        },
    }
}


@pytest.mark.parametrize(
    ("desired", "fields", "body", "same"),
    [
        pytest.param(SERVICE, SERVICE_FIELDS, SERVICE, True, id="all owned and equal"),
        pytest.param(
            SERVICE,
            SERVICE_FIELDS,
            {
                "spec": {
                    "clusterIP": "10.0.0.1",
                    "selector": {"a": "b"},
                    "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 3}],
                }
            },
            True,
            id="others' fields and the server's defaults do not count",
        ),
        pytest.param(
            SERVICE,
            SERVICE_FIELDS,
            {"spec": {"selector": {"a": "c"}, "ports": SERVICE["spec"]["ports"]}},
            False,
            id="an owned value differs",
        ),
        pytest.param(
            SERVICE,
            {"f:spec": {"f:selector": {}}},
            SERVICE,
            False,
            id="a desired field was taken over by somebody else",
        ),
        pytest.param(
            {"spec": {"selector": {"a": "b"}}},
            SERVICE_FIELDS,
            SERVICE,
            False,
            id="we own what we no longer want",
        ),
        pytest.param(
            SERVICE,
            SERVICE_FIELDS,
            {"spec": {"selector": {"a": "b"}}},
            False,
            id="an owned field was removed",
        ),
        pytest.param(
            {"spec": {"env": [{"name": "A", "value": ""}]}},
            {"f:spec": {"f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}}}},
            {"spec": {"env": [{"name": "A"}]}},
            True,
            id="the server leaves out what is empty",
        ),
        pytest.param(
            {"spec": {"maxSurge": 1, "maxUnavailable": 0}},
            {"f:spec": {"f:maxSurge": {}}},
            {"spec": {"maxSurge": 1, "maxUnavailable": "100%"}},
            False,
            id="a 0 that somebody else has changed, and owns now",
        ),
        pytest.param(
            {"spec": {"image": "x", "automountServiceAccountToken": False}},
            {"f:spec": {"f:image": {}}},
            {"spec": {"image": "x", "automountServiceAccountToken": True}},
            False,
            id="a False that somebody else has changed, and owns now",
        ),
        pytest.param(
            {"metadata": {"labels": {"a": "b"}, "annotations": {}}},
            {"f:metadata": {"f:labels": {"f:a": {}}}},
            {"metadata": {"labels": {"a": "b"}, "annotations": {"others": "x"}}},
            True,
            id="what others put where we want nothing",
        ),
        pytest.param(
            {"spec": {"env": [{"name": "B", "value": "1"}, {"name": "A", "value": "2"}]}},
            {
                "f:spec": {
                    "f:env": {
                        'k:{"name":"A"}': {"f:name": {}, "f:value": {}},
                        'k:{"name":"B"}': {"f:name": {}, "f:value": {}},
                    }
                }
            },
            {"spec": {"env": [{"name": "A", "value": "2"}, {"name": "X"}, {"name": "B", "value": "1"}]}},
            True,
            id="entries are found by their keys, not by their place",
        ),
        pytest.param(
            {"spec": {"limits": {"memory": "1024Mi", "cpu": "0.5"}}},
            {"f:spec": {"f:limits": {"f:memory": {}, "f:cpu": {}}}},
            {"spec": {"limits": {"memory": "1Gi", "cpu": "500m"}}},
            True,
            id="quantities are numbers",
        ),
        pytest.param(
            {"spec": {"image": "1024Mi"}},
            {"f:spec": {"f:image": {}}},
            {"spec": {"image": "1Gi"}},
            False,
            id="only quantities are",
        ),
        pytest.param(
            {"spec": {"emptyDir": {}}},
            {"f:spec": {"f:emptyDir": {}}},
            {"spec": {"emptyDir": {"sizeLimit": "1Gi"}}},
            True,
            id="what others put into an empty struct of ours is theirs",
        ),
        pytest.param(
            {"spec": {"args": []}},
            {"f:spec": {"f:args": {}}},
            {"spec": {"args": ["x"]}},
            False,
            id="a list that is ours as a whole and is to be empty",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["b", "a"]}},
            {"f:metadata": {"f:finalizers": {'v:"a"': {}, 'v:"b"': {}}}},
            {"metadata": {"finalizers": ["x", "a", "b"]}},
            True,
            id="members of a set",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "c"]}},
            {"f:metadata": {"f:finalizers": {'v:"a"': {}, 'v:"b"': {}}}},
            {"metadata": {"finalizers": ["a", "b"]}},
            False,
            id="another member of a set",
        ),
        pytest.param(
            {"spec": {"replicas": 0}},
            {"f:spec": {"f:replicas": {}}},
            {"spec": {"replicas": 1}},
            False,
            id="zero is not one",
        ),
    ],
)
def test_a_request_is_needed_exactly_when_it_would_change_something(
    desired: dict[str, Any], fields: dict[str, Any], body: dict[str, Any], same: bool
) -> None:
    assert unchanged(desired, observed(fields, **body), ME) is same


@pytest.mark.parametrize(
    "entry", [{"operation": "Update"}, {"subresource": "status"}, {"manager": "kubectl"}]
)
def test_what_others_own_or_we_own_in_another_way_does_not_count(entry: dict[str, str]) -> None:
    body = observed({"f:spec": {"f:a": {}}}, spec={"a": 1})
    assert unchanged({"spec": {"a": 1}}, body, ME)
    body["metadata"]["managedFields"][0] |= entry
    assert not unchanged({"spec": {"a": 1}}, body, ME)


def test_entries_that_others_own_in_an_empty_list_of_ours_are_theirs() -> None:
    body = observed({"f:spec": {"f:env": {}}}, spec={"env": [{"name": "A"}]})
    theirs: dict[str, Any] = {"f:spec": {"f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}}}}}
    body["metadata"]["managedFields"].append(
        {"manager": "kubectl", "operation": "Update", "fieldsV1": theirs}
    )
    assert unchanged({"spec": {"env": []}}, body, ME)


def test_the_address_of_an_object_is_owned_by_nobody() -> None:
    desired = {"kind": "X", "apiVersion": "v1", "metadata": {"name": "n", "namespace": "d", "uid": "u"}}
    assert unchanged(desired, observed({}), ME)


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", "0.5"), ("1Gi", "1073741824"), (2, "2"), ("1.5k", "1500"), ("", None), ("much", None)],
)
def test_quantities_are_read_as_numbers(text: object, number: str | None) -> None:
    found = parse_quantity(text)
    assert (None if found is None else str(found.normalize() + 0)) == (
        None if number is None else str(type(found)(number).normalize() + 0)  # type: ignore[misc]
    )


values = st.recursive(
    st.text(max_size=3) | st.integers(1, 9) | st.booleans() | st.lists(st.integers(1, 9), max_size=2),
    lambda below: st.dictionaries(st.sampled_from("abcd"), below, max_size=3),
    max_leaves=8,
)
contents = st.dictionaries(st.sampled_from(("spec", "data")), values, max_size=2)


@given(contents, contents)
@example({"spec": [1]}, {"spec": []})
def test_after_an_apply_the_same_apply_is_not_needed_and_another_one_is(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    cluster = FakeCluster(Clock())
    found = cluster.put({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "n"}})
    one = {"metadata": {}} | first
    other = {"metadata": {}} | second
    cluster._merge(found, one, ME, "")
    assert unchanged(one, found, ME)
    if unchanged(other, found, ME):
        before = {k: v for k, v in found.items() if k != "metadata"}
        cluster._merge(found, other, ME, "")
        after = {k: v for k, v in found.items() if k != "metadata"}
        assert _without_empty(after) == _without_empty(before)


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: _without_empty(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v not in ("", [], {}) and v is not False}
    return value
