"""How a model is to be served beside its files, as the runtime reads it: MODELS_CONFIG, from a ConfigMap.

A ConfigMap is named by what it holds and never edited, so that a change is a change of the pod template.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from embedding_operator.api import Body, EmbeddingModel
from embedding_operator.facts import Facts
from embedding_operator.observed import CONFIG_MAP, REVISION, Observed
from embedding_operator.resources import pod
from embedding_operator.resources.meta import metadata

FOLDER, FILE = "/etc/embedding-runtime/models", "models.json"
PATH = f"{FOLDER}/{FILE}"
"""What MODELS_CONFIG is set to where the ConfigMap is mounted."""


def fetching(em: EmbeddingModel) -> dict[str, Any] | None:
    """Returns the ConfigMap of the prefetch Job, None where the model is taken as it is."""
    if not em.source.options:
        return None
    return _config_map(em, {"id": em.source.id} | json.loads(em.source.options))


def serving(em: EmbeddingModel, facts: Facts) -> dict[str, Any]:
    """Returns the ConfigMap of the set of these facts, whose model need not be the spec's any more.

    Its pods answer to the resource's name and to the spec's served names beside the model's id.
    """
    names = [name for name in dict.fromkeys((em.name, *em.served_names)) if name != facts.model]
    place = {"path": facts.folder} if facts.folder else {"revision": facts.commit}
    entry = {"id": facts.model, "served_names": names} | place
    return _config_map(em, entry | json.loads(facts.options or "{}"))


def mount(spec: dict[str, Any], config_map: dict[str, Any]) -> None:
    """Mounts such a ConfigMap into all containers of a pod of pod.pod_spec."""
    pod.mount(
        spec,
        into=[*spec["containers"], *spec.get("initContainers", ())],
        name="models-config",
        path=FOLDER,
        source={"configMap": {"name": config_map["metadata"]["name"], "defaultMode": 0o444}},
    )


def restored(em: EmbeddingModel, text: str) -> dict[str, Any]:
    """Returns the ConfigMap that held this text: of a template that is kept, and whose ConfigMap is gone."""
    return _holding(em, text)


def revision_in(text: str) -> str | None:
    """Returns the revision that the model of such a ConfigMap's text is served at, None where it has none."""
    models = json.loads(text)["models"] if text else ()
    return next((entry["revision"] for entry in models if "revision" in entry), None)


def mounted(template: Body, config_maps: Iterable[Body]) -> str:
    """Returns the text of that of these ConfigMaps which a pod template mounts, empty where none is."""
    known = {body["metadata"]["name"]: body["data"].get(FILE, "") for body in config_maps}
    volumes = template["spec"].get("volumes") or ()
    names = [(volume.get("configMap") or {}).get("name", "") for volume in volumes]
    return next((str(known[name]) for name in names if name in known), "")


def unused(seen: Observed, sets: Sequence[Facts]) -> list[str]:
    """Returns the names of the ConfigMaps that none of these sets, no Job, Deployment or pod stands on.

    What a kept template names counts too: a roll back would need it.
    """
    wanted = [fetching(seen.em), *(serving(seen.em, facts) for facts in sets)]
    used = {config_map["metadata"]["name"] for config_map in wanted if config_map is not None}
    standing = [*seen.deployments.values(), *seen.jobs.values()]
    templates = [body["spec"]["template"] for body in standing]
    templates += [body["data"]["template"] for body in seen.of(REVISION).values()]
    for template in (*templates, *seen.pods):
        for volume in template["spec"].get("volumes") or ():
            used.add((volume.get("configMap") or {}).get("name", ""))
    return [name for name in seen.of(CONFIG_MAP) if name not in used]


def _config_map(em: EmbeddingModel, entry: dict[str, Any]) -> dict[str, Any]:
    return _holding(em, json.dumps({"models": [entry]}, sort_keys=True, indent=2, ensure_ascii=False) + "\n")


def _holding(em: EmbeddingModel, text: str) -> dict[str, Any]:
    name = f"{em.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(em, name, "options"),
        "immutable": True,
        "data": {FILE: text},
    }
