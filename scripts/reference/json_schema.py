"""Pieces of JSON schemas (draft 2020-12), and tables of their fields."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from scripts.reference.markdown import table

Schema = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
TEXT: Schema = {"type": "string"}
TIME: Schema = {"type": "string", "format": "date-time"}
COUNT: Schema = {"type": "integer", "minimum": 0}
OK: Schema = {"type": "boolean"}


def maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def said(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


def cleaned(schema: Any) -> Any:
    """Without pydantic's titles, which repeat the names of the fields."""
    if isinstance(schema, list):
        return [cleaned(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: cleaned(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }
    if isinstance(kept.get("description"), str):
        kept["description"] = " ".join(kept["description"].replace("``", "`").split())
    return kept


def as_json(schema: Schema) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def fields(schema: Schema, without: Collection[str] = ()) -> str:
    """A table of an object's fields."""
    rows = [
        (f"`{name}`", _kind(field), field.get("description", ""))
        for name, field in schema["properties"].items()
        if name not in without
    ]
    if not any(row[2] for row in rows):
        return table(("field", "value"), (row[:2] for row in rows))
    return table(("field", "value", "meaning"), rows)


def _kind(field: Schema) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in field or "enum" in field:
        values = field.get("enum", [field.get("const")])
        return ", ".join(f"`{value}`" if value != "" else "empty" for value in values)
    if "anyOf" in field:
        return " or ".join(map(_kind, field["anyOf"]))
    return _of_type(field)


def _of_type(field: Schema) -> str:
    if isinstance(field.get("items"), dict):
        return f"list of {_kind(field['items'])}"
    if isinstance(field.get("additionalProperties"), dict):
        return f"object of {_kind(field['additionalProperties'])}"
    if field.get("format") == "date-time":
        return "time (ISO 8601)"
    return str(field.get("type", "anything"))
