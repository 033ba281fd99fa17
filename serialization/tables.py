"""Renew the tables of FORMAT.md that are made from the code.

python serialization/tables.py
"""

import re
from pathlib import Path
from typing import Any

from qcompile.artifact.manifest import FAULTS, schema

FORMAT = Path(__file__).parent / "FORMAT.md"
_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def renewed(text: str) -> str:
    """FORMAT.md's text with every table between its marks made anew."""
    return _BLOCK.sub(lambda found: found[1] + _table(found[2]) + found[3], text)


def _table(name: str) -> str:
    if name == "faults":
        return "| fault | meaning |\n|---|---|\n" + "".join(f"| `{key}` | {text} |\n" for key, text in FAULTS.items())
    whole = schema()
    record = whole if name == "Manifest" else whole["$defs"][name]
    rows = [f"| `{field}` | {_type(value)} | {_text(value)} |\n" for field, value in record["properties"].items()]
    return "".join(["| field | type | meaning |\n", "|---|---|---|\n", *rows])


def _text(value: dict[str, Any]) -> str:
    return " ".join(str(value.get("description", "")).split()).replace("|", "\\|")


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        return str(value["$ref"]).rpartition("/")[2]
    if "const" in value:
        return f"{value['const']}"
    if "enum" in value:
        return " or ".join(f'"{choice}"' for choice in value["enum"])
    if "anyOf" in value:
        return " or ".join(_type(option) for option in value["anyOf"])
    if "pattern" in value:
        return "64 hex digits"
    kind = value.get("type", "any")
    if kind == "array" and "prefixItems" in value:
        return "[" + ", ".join(_type(item) for item in value["prefixItems"]) + "]"
    if kind == "array":
        return f"list of {_type(value['items'])}"
    if kind == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"mapping to {_type(value['additionalProperties'])}"
    return str(kind)


if __name__ == "__main__":
    FORMAT.write_text(renewed(FORMAT.read_text(encoding="utf-8")), encoding="utf-8")
