"""docs/crd.md: the reference of the custom resource, from its schema."""

from collections.abc import Iterator
from typing import Any

import yaml
from table import table

Schema = dict[str, Any]

HEAD = """\
# EmbeddingModel

Generated from `crds/embeddingmodels.yaml` by `make generate`. A cluster prints the same:
`kubectl explain em.spec --recursive`.
"""


def page(text: str) -> str:
    """Return the page for the text of the CustomResourceDefinition."""
    definition = yaml.safe_load(text)
    names, (version,) = definition["spec"]["names"], definition["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    api_version = f"{definition['spec']['group']}/{version['name']}"
    lines = [
        HEAD,
        schema["description"],
        "",
        f"- `apiVersion: {api_version}`, `kind: {names['kind']}`; namespaced",
        f"- `kubectl get {names['plural']}`, short `{names['shortNames'][0]}`; part of `kubectl get all`",
        "- sub-resources: `status`, and `scale`, which writes `spec.replicas`",
        "",
        "## Columns",
        "",
        *table(
            ("column", "what"),
            (
                (
                    column["name"] + (" (`-o wide`)" if column.get("priority") else ""),
                    column.get("description", "How long ago the resource was made"),
                )
                for column in version["additionalPrinterColumns"]
            ),
        ),
        "",
        *_rules("The resource", schema),
        *_section("spec", schema["properties"]["spec"]),
        *_section("status", schema["properties"]["status"]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _section(path: str, schema: Schema) -> Iterator[str]:
    yield from (f"## `{path}`", "", schema.get("description", ""), "")
    fields, required = schema.get("properties", {}), schema.get("required", ())
    yield from table(
        ("field", "type", "default", "what"),
        (
            (f"`{name}`", _type(field), _default(field, name in required), _what(path, name, field))
            for name, field in fields.items()
        ),
    )
    yield ""
    yield from _rules(f"`{path}`", schema)
    for name, field in fields.items():
        yield from _nested(f"{path}.{name}", field)


def _nested(path: str, schema: Schema) -> Iterator[str]:
    if schema.get("properties"):
        yield from _section(path, schema)
    elif (items := schema.get("items", {})).get("properties"):
        yield from _section(f"{path}[]", {"description": "One entry.", **items})


def _rules(what: str, schema: Schema) -> Iterator[str]:
    rules = [rule["message"] for rule in schema.get("x-kubernetes-validations", ())]
    if rules:
        yield from (f"{what} is refused with these words where a rule is broken:", "")
        yield from (f"- {message}" for message in rules)
        yield ""


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    match schema.get("type"):
        case "array":
            return f"list of {_type(schema['items'])}"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return f"map of {_type(schema['additionalProperties'])}"
        case kind:
            return str(kind)


def _default(schema: Schema, required: bool) -> str:
    if required:
        return "(required)"
    # an empty default only stands for those of the fields in it
    if schema.get("default") in (None, {}):
        return ""
    value = schema["default"]
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _what(path: str, name: str, schema: Schema) -> str:
    description = schema.get("description")
    if not description:
        raise SystemExit(f"{path}.{name} has no description")
    return " ".join([description, *_bounds(schema), *(_own_rules(schema) if not _opens(schema) else ())])


def _opens(schema: Schema) -> bool:
    """Whether the field has a section of its own, with its rules."""
    return bool(schema.get("properties") or schema.get("items", {}).get("properties"))


def _bounds(schema: Schema) -> Iterator[str]:
    if "minimum" in schema and "maximum" in schema:
        yield f"{schema['minimum']} to {schema['maximum']}."
    elif "minimum" in schema:
        yield f"At least {schema['minimum']}."


def _own_rules(schema: Schema) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"Refused otherwise: {rule['message']}."
