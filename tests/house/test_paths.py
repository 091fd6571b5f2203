"""The HTTP layer names no path of a feature: features declare what it has to know of theirs."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
WEB = ROOT / "app" / "web"
OF_THE_API = frozenset({"/api", "/api/v1"})


def feature_paths() -> set[str]:
    """Return the path of every operation up to its first parameter, and the prefixes of others."""
    document = json.loads((ROOT / "docs" / "reference" / "openapi.json").read_text("utf-8"))
    found = set()
    for path, operations in document["paths"].items():
        if all(operation["tags"] != ["health"] for operation in operations.values()):
            found.add(path.partition("/{")[0])
    return found | {"/" + path.split("/")[1] for path in found} - OF_THE_API


def test_no_module_of_the_http_layer_names_a_path_of_a_feature() -> None:
    paths = feature_paths()

    named = [
        f"{module.name}: {path}"
        for module in sorted(WEB.glob("*.py"))
        for path in sorted(paths)
        if path in module.read_text(encoding="utf-8")
    ]

    assert {"/ofrep", "/api/v1/config"} <= paths
    assert named == []
