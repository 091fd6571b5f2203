"""Reports of what was found in files: lines for people, SARIF and JUnit for programs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any
from xml.etree import ElementTree as ET

from pilothouse.judging.findings import Finding

_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True)
class Issue:
    """A finding in a file; `position` is line and column, None where they are not known."""

    file: str
    environment: str | None
    finding: Finding
    position: tuple[int, int] | None = None

    @property
    def severity(self) -> str:
        return "error" if self.finding.is_error else "warning"

    @property
    def facts(self) -> dict[str, Any]:
        line, column = self.position or (None, None)
        where = {"file": self.file, "line": line, "column": column}
        return {**where, "environment": self.environment, **self.finding.facts}


@dataclass(frozen=True)
class JudgedCase:
    """One file, judged by one schema."""

    file: str
    environment: str | None
    schema: str
    issues: Sequence[Issue]

    @property
    def is_valid(self) -> bool:
        return not any(issue.finding.is_error for issue in self.issues)


def issues_of(cases: Sequence[JudgedCase]) -> list[Issue]:
    """Return the issues of all cases; one that several environments share counts once."""
    unique_issues: dict[Any, Issue] = {}
    for issue in (issue for case in cases for issue in case.issues):
        each = issue.finding
        unique_issues.setdefault(
            (issue.file, each.schema, each.schema_pointer, each.key, each.rule), issue
        )
    return list(unique_issues.values())


def text_report(cases: Sequence[JudgedCase]) -> str:
    """Return one line for each issue."""
    return "".join(f"{_line(issue)}\n" for issue in issues_of(cases))


def _line(issue: Issue) -> str:
    place = "".join(f":{number}" for number in issue.position or ())
    where = f"{issue.file}{place}"
    if issue.environment is not None:
        where += f" [{issue.environment}]"
    at = f" at {issue.finding.schema_pointer}" if issue.finding.schema_pointer else ""
    return f"{where}: {issue.severity}: {issue.finding}{at}"


def sarif_report(cases: Sequence[JudgedCase], remarks: Sequence[str] = ()) -> str:
    """Return a log of SARIF 2.1.0; `remarks` are what could not be judged."""
    issues = issues_of(cases)
    rules = dict.fromkeys(_rule_id(issue.finding) for issue in issues)
    notes = [{"level": "warning", "message": {"text": remark}} for remark in remarks]
    run = {
        "tool": {
            "driver": {
                "name": "pilothouse",
                "version": version("pilothouse-client"),
                "rules": [{"id": each} for each in rules],
            }
        },
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notes}],
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(issue) for issue in issues],
    }
    log = {"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, ensure_ascii=False, indent=2) + "\n"


def _sarif_result(issue: Issue) -> dict[str, Any]:
    finding = issue.finding
    physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(issue.file)}}
    if issue.position is not None:
        line, column = issue.position
        physical["region"] = {"startLine": line, "startColumn": column}
    location: dict[str, Any] = {"physicalLocation": physical}
    if finding.key:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.key, "kind": "member"}]
    return {
        "ruleId": _rule_id(finding),
        "level": issue.severity,
        "message": {"text": str(finding)},
        "locations": [location],
        "properties": {
            "pointer": finding.pointer,
            "schema": finding.schema,
            "schemaPointer": finding.schema_pointer,
            "expected": finding.expected,
            "environment": issue.environment,
        },
    }


def _rule_id(finding: Finding) -> str:
    return finding.keyword if finding.rule is None else f"{finding.schema}/{finding.rule}"


def _uri(name: str) -> str:
    path = PurePath(name)
    return Path(name).as_uri() if path.is_absolute() else path.as_posix()


def junit_report(cases: Sequence[JudgedCase]) -> str:
    """Return JUnit's XML: one test case for each file, environment in it, and schema."""
    failures = sum(not case.is_valid for case in cases)
    counts = {"name": "pilothouse validate", "tests": str(len(cases)), "failures": str(failures)}
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", {**counts, "errors": "0", "skipped": "0"})
    for case in cases:
        name = case.schema if case.environment is None else f"{case.schema} [{case.environment}]"
        element = ET.SubElement(suite, "testcase", {"classname": case.file, "name": name})
        errors = [_line(issue) for issue in case.issues if issue.finding.is_error]
        warnings = [_line(issue) for issue in case.issues if not issue.finding.is_error]
        if errors:
            failure = ET.SubElement(element, "failure", {"message": _xml_text(errors[0])})
            failure.text = _xml_text("\n".join(errors))
        if warnings:
            ET.SubElement(element, "system-out").text = _xml_text("\n".join(warnings))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _xml_text(text: str) -> str:
    """Return text with the characters escaped that XML cannot hold."""
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape").decode()
        for character in text
    )
