"""A Secret or a ConfigMap that serving pods wait for is told by the field that names it."""

import pytest

from embedding_operator.health.pods import Problem
from embedding_operator.sets import missing
from tests.unit.operator import samples

EM = samples.model(
    server={"apiKeySecretRef": {"name": "keys", "key": "clients"}},
    env=[
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "store", "key": "a"}}},
        {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "store", "key": "b"}}},
        {"name": "C", "valueFrom": {"secretKeyRef": {"name": "maybe", "key": "c", "optional": True}}},
        {"name": "D", "value": "1"},
    ],
)
OWN = samples.model(
    model={"source": {"hub": {"tokenSecretRef": {"name": "hub", "key": "token"}}}},
    cache={"mode": "PerReplica"},
)
CONFIG, MOUNT = "CreateContainerConfigError", "FailedMount"


@pytest.mark.parametrize(
    ("reason", "words", "told", "field"),
    [
        (MOUNT, 'volume "api-key" : secret "keys" not found', "MissingSecret", "spec.server.apiKeySecretRef"),
        (
            MOUNT,
            'volume "api-key" : references non-existent secret key: clients',
            "MissingSecret",
            "key clients",
        ),
        (MOUNT, 'volume "extra" : secret "extra" not found', MOUNT, None),
        (CONFIG, 'secret "store" not found', "MissingSecret", "spec.env (variable A)"),
        (CONFIG, "couldn't find key a in Secret default/store", "MissingSecret", "spec.env (variable A)"),
        (CONFIG, 'configmap "store" not found', "MissingConfigMap", "spec.env (variable B)"),
        (CONFIG, "couldn't find key b in ConfigMap default/store", "MissingConfigMap", "(variable B)"),
        (CONFIG, 'secret "maybe" not found', CONFIG, None),
        (CONFIG, 'secret "stores" not found', CONFIG, None),
        (CONFIG, "container has runAsNonRoot and image will run as root", CONFIG, None),
        ("CrashLoopBackOff", 'secret "store" not found', "CrashLoopBackOff", None),
    ],
)
def test_what_is_missing_has_the_name_of_its_field(
    reason: str, words: str, told: str, field: str | None
) -> None:
    found = missing.named(EM, Problem(reason, f"1 of 2 pods: {words}", 70))
    assert (found.reason, found.rank) == (told, 70)
    assert found.message.startswith(f"1 of 2 pods: {words}")
    assert (field or "") in found.message
    assert ("Make " in found.message) is (field is not None)


def test_pods_that_fetch_for_themselves_need_the_hubs_token() -> None:
    problem = Problem(CONFIG, 'secret "hub" not found', 70)
    assert missing.named(OWN, problem).reason == "MissingSecret"
    assert "spec.model.source.hub.tokenSecretRef" in missing.named(OWN, problem).message
    assert missing.named(EM, problem) == problem
