"""Does an observed object already hold what we want to apply? Read from its managedFields; pure.

Server-side apply records per field manager which fields it owns (metadata.managedFields, "FieldsV1"). An
apply changes nothing exactly when the owned fields are the desired ones and hold the desired values; then no
request is needed. FieldsV1: `f:name` is a field, `k:{...}` a list entry with these key values, `v:...` a
member of a set, `.` the item itself; an empty subtree is a leaf, or something atomic.
Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

_Trees = Sequence[Mapping[str, Any]]

_QUANTITIES = frozenset({"limits", "requests", "sizeLimit", "divisor"})
_QUANTITY = re.compile(r"^([+-]?[0-9.]+)(n|u|m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$")
_FACTORS = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), None: Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15),
    "E": Decimal(10**18), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
    "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip


def unchanged(
    desired: Mapping[str, Any], observed: Mapping[str, Any], manager: str, subresource: str = ""
) -> bool:
    """Returns whether applying desired as manager would leave observed as it is.

    False also where a field that manager owned is no longer desired, or was taken over by somebody else.
    """
    owned = _owned(observed, manager, subresource)
    others = [tree for tree in _trees(observed) if tree is not owned]
    return _same_map(_content(desired), observed, owned, others, quantity=False)


def owns(observed: Mapping[str, Any], manager: str, *path: str) -> bool:
    """Returns whether the field at path has the value that manager applied last."""
    owned = _owned(observed, manager, "")
    for name in path:
        if f"f:{name}" not in owned:
            return False
        owned = owned[f"f:{name}"]
    return True


def parse_quantity(value: object) -> Decimal | None:
    """Returns a Kubernetes quantity ("500m", "5Gi", 2) as a number, None where it is none.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    match = _QUANTITY.match(str(value))
    return Decimal(match[1]) * _FACTORS[match[2]] if match else None


def _owned(observed: Mapping[str, Any], manager: str, subresource: str) -> Mapping[str, Any]:
    """Returns the fields that an object's managedFields give to a manager's applies."""
    owned: Mapping[str, Any] = {}
    for entry in observed.get("metadata", {}).get("managedFields", ()):
        if (
            entry.get("manager") == manager
            and entry.get("operation") == "Apply"
            and entry.get("subresource", "") == subresource
        ):
            owned = entry.get("fieldsV1") or {}
    return owned


def _trees(observed: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns what each manager of an object owns of it."""
    return [entry.get("fieldsV1") or {} for entry in observed.get("metadata", {}).get("managedFields", ())]


def _content(desired: Mapping[str, Any]) -> dict[str, Any]:
    """Returns desired without what only addresses the object, which nobody owns."""
    content = {k: v for k, v in desired.items() if k not in ("apiVersion", "kind")}
    metadata = desired.get("metadata") or {}
    address = ("name", "namespace", "uid", "resourceVersion")
    content["metadata"] = {k: v for k, v in metadata.items() if k not in address}
    return content


def _same(desired: Any, observed: Any, owned: Mapping[str, Any], others: _Trees, *, quantity: bool) -> bool:
    children = {path: below for path, below in owned.items() if path != "."}
    if not children:
        if desired == {} and isinstance(observed, Mapping):
            return True  # we own that it is there, not what others put into it
        if desired == [] and isinstance(observed, list):
            # nobody owns entries of a list that is replaced as a whole: then what is in it was ours
            return not observed or any(tree.keys() - {"."} for tree in others)
        return _equal(desired, observed, quantity=quantity)
    if all(path.startswith("f:") for path in children):
        return _same_map(desired, observed, children, others, quantity=quantity)
    if all(path.startswith("k:") for path in children):
        return _same_entries(desired, observed, children, others, quantity=quantity)
    if all(path.startswith("v:") for path in children):
        members = [json.loads(path[2:]) for path in children]
        return (
            isinstance(desired, list)
            and isinstance(observed, list)
            and sorted(map(str, desired)) == sorted(map(str, members))
            and all(member in observed for member in members)
        )
    return False


def _below(trees: _Trees, path: str) -> _Trees:
    return [tree[path] for tree in trees if path in tree]


def _same_map(
    desired: Any, observed: Any, children: Mapping[str, Any], others: _Trees, *, quantity: bool
) -> bool:
    if not isinstance(desired, Mapping) or not isinstance(observed, Mapping):
        return False
    names = {path[2:] for path in children}
    if any(name not in names and not _left_out(value, observed.get(name)) for name, value in desired.items()):
        return False  # not ours yet, or taken from us
    return all(
        _same(
            desired.get(path[2:]),
            observed.get(path[2:]),
            below,
            _below(others, path),
            quantity=quantity or path[2:] in _QUANTITIES,
        )
        for path, below in children.items()
    )


def _same_entries(
    desired: Any, observed: Any, children: Mapping[str, Any], others: _Trees, *, quantity: bool
) -> bool:
    if not isinstance(desired, list) or not isinstance(observed, list) or len(desired) != len(children):
        return False
    for path, below in children.items():
        keys = json.loads(path[2:])
        wanted, found = _entry(desired, keys), _entry(observed, keys)
        if wanted is None or found is None:
            return False
        if not _same(wanted, found, below, _below(others, path), quantity=quantity):
            return False
    return True


def _entry(items: list[Any], keys: Mapping[str, Any]) -> Any:
    for item in items:
        if isinstance(item, Mapping) and all(item.get(k) == v for k, v in keys.items()):
            return item
    return None


def _left_out(desired: Any, observed: Any) -> bool:
    """Returns whether a field that we do not own need not be ours: nothing is desired, or stored.

    A 0 or a False that somebody else has changed is neither.
    """
    return _empty(desired) and (desired is None or desired in ({}, []) or _empty(observed))


def _empty(value: Any) -> bool:
    """The API server leaves out what is empty: a missing field and an empty one are the same."""
    return value is None or value is False or value in ("", 0, [], {})


def _equal(desired: Any, observed: Any, *, quantity: bool) -> bool:
    if isinstance(desired, Mapping) and isinstance(observed, Mapping):
        return all(
            _equal(desired.get(k), observed.get(k), quantity=quantity or k in _QUANTITIES)
            for k in desired.keys() | observed.keys()
        )
    if isinstance(desired, list) and isinstance(observed, list):
        return len(desired) == len(observed) and all(
            _equal(a, b, quantity=quantity) for a, b in zip(desired, observed, strict=True)
        )
    if _empty(desired) and _empty(observed):
        return True
    if quantity:
        number = parse_quantity(desired)
        return number is not None and number == parse_quantity(observed)
    return bool(desired == observed) and type(desired) is type(observed)
