"""spec.podTemplate onto a pod template: a strategic merge, as `kubectl patch` makes one.

What it may not say is refused elsewhere (sets/privileges.py).
"""

import copy
from collections.abc import Mapping
from typing import Any

from embedding_operator.api import Body

KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "resourceClaims": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "protocol"),
}
"""Lists of objects that merge, and the fields by which; other lists are replaced. As in the API's own types
(patchMergeKey, listMapKey): https://github.com/kubernetes/api/blob/master/core/v1/types.go"""

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""What a container of somebody else gets too, where it does not say otherwise."""

_CONTAINERS = ("initContainers", "containers")

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "fieldRef": {"apiVersion": "v1"},
    "resourceFieldRef": {"divisor": "0"},
    "serviceAccountToken": {"expirationSeconds": 3600},
}
"""What the API server adds inside of what a field manager owns as a whole."""


def merged(template: dict[str, Any], patch: Body) -> dict[str, Any]:
    """Returns a pod template with spec.podTemplate merged into it."""
    ours = {part: {item["name"] for item in template["spec"].get(part, ())} for part in _CONTAINERS}
    found: dict[str, Any] = _merge(template, stored(patch))
    for part in _CONTAINERS:
        if part in found["spec"]:
            found["spec"][part] = [
                item if item["name"] in ours[part] else _restricted(item) for item in found["spec"][part]
            ]
    return found


def stored(value: Any, field: str = "") -> Any:
    """Returns a part of a pod that somebody wrote as the API server stores it, as far as we compare that.

    Without it every comparison would find its defaults as a difference. field is the name that the part has.
    """
    if isinstance(value, list):
        entries = [stored(item) for item in value]
        if field == "ports":
            return [{"protocol": "TCP"} | item if isinstance(item, dict) else item for item in entries]
        return entries
    if not isinstance(value, Mapping):
        return value
    return {**_DEFAULTS.get(field, {})} | {name: stored(below, name) for name, below in value.items()}


def _restricted(container: Body) -> dict[str, Any]:
    context = _merge(copy.deepcopy(RESTRICTED), container.get("securityContext") or {})
    return {**container, "securityContext": context}


def _merge(base: Any, patch: Any, field: str = "") -> Any:
    if isinstance(base, Mapping) and isinstance(patch, Mapping):
        return {**base} | {
            name: _merge(base[name], value, name) if name in base else value for name, value in patch.items()
        }
    if isinstance(base, list) and isinstance(patch, list) and field in KEYS:
        return _merge_entries(base, patch, KEYS[field])
    return patch


def _merge_entries(base: list[Any], patch: list[Any], keys: tuple[str, ...]) -> list[Any]:
    """Ours stay in front, in their order; what is there twice in the patch is the API server's to refuse."""
    found = [*base]
    for entry in patch:
        place = next((i for i, item in enumerate(base) if _is_same(item, entry, keys)), None)
        if place is None:
            found.append(entry)
        else:
            found[place] = _merge(base[place], entry)
    return found


def _is_same(one: Any, other: Any, keys: tuple[str, ...]) -> bool:
    both = isinstance(one, Mapping) and isinstance(other, Mapping)
    return both and all(one.get(key) == other.get(key) for key in keys)
