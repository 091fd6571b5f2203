"""What `pilothouse validate` does: reads files, judges them or lets the service judge, reports."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilothouse.cli.commands import Session
from pilothouse.cli.files import ConfigFile, write_out
from pilothouse.cli.judged_files import JudgedConfig, read_configs, read_layers
from pilothouse.cli.reports import (
    Issue,
    JudgedCase,
    issues_of,
    junit_report,
    sarif_report,
    text_report,
)
from pilothouse.cli.schema_files import SchemaFile, read_schema_file
from pilothouse.cli.values import indented_json
from pilothouse.judging.findings import Finding, rule_message
from pilothouse.judging.rules import RulesNotJudged, judge_rules
from pilothouse_core.config_files.errors import BadFile
from pilothouse_core.judgement.rules import Question, Verdict
from pilothouse_core.judgement.words import expectation
from pilothouse_core.keys import names_of
from pilothouse_core.schema_index import join_pointer

_VALIDATE = "/api/v1/validate"
_SERVICE = "the service"
_HIDDEN = "configurations that you may not read would violate a schema"


@dataclass(frozen=True)
class JudgedFiles:
    """`remarks` are what could not be judged at all.

    `counts` are the numbers of judged and of violating configurations, where the service has
    judged: one change may concern several. With `is_refused` some of them may not be read.
    """

    cases: Sequence[JudgedCase]
    remarks: Sequence[str] = ()
    counts: tuple[int, int] | None = None
    is_refused: bool = False

    @property
    def is_valid(self) -> bool:
        return not self.is_refused and all(case.is_valid for case in self.cases)


def print_report(session: Session, judged: JudgedFiles, form: str, output: Path | None) -> None:
    """Print or write a report: `text`, `sarif` or `junit`; JSON with --json."""
    cases, remarks = judged.cases, judged.remarks
    issues = issues_of(cases)
    errors = [issue.facts for issue in issues if issue.finding.is_error]
    warnings = [issue.facts for issue in issues if not issue.finding.is_error]
    for remark in remarks:
        session.output.note(f"warning: {remark}")
    if session.output.as_json:
        warned = [
            *warnings,
            *(
                {"kind": "not_shown" if each == _HIDDEN else "rules_not_judged", "detail": each}
                for each in remarks
            ),
        ]
        violating = sum(not case.is_valid for case in cases)
        affected, violating = judged.counts or (len(cases), violating)
        answer = {
            "valid": judged.is_valid,
            "errors": errors,
            "warnings": warned,
            "affected": affected,
            "violating": violating,
        }
        return write_out(session, indented_json(answer), output)
    if form == "sarif":
        return write_out(session, sarif_report(cases, remarks), output)
    if form == "junit":
        return write_out(session, junit_report(cases), output)
    write_out(session, text_report(cases), output)
    counted = f"{len(errors)} errors, {len(warnings)} warnings"
    session.output.note(f"{counted} in {len({case.file for case in cases})} files")
    return None


# Here


def judge_files(
    session: Session,
    files: Sequence[ConfigFile],
    schemas: Sequence[Path],
    at: str | None,
    *,
    types: bool,
) -> JudgedFiles:
    """Judge files by schemas in files; nothing is sent. Raises Failure for a bad schema."""
    read = [read_schema_file(path, at) for path in schemas]
    cases: list[JudgedCase] = []
    remarks: dict[str, None] = {}
    for file in files:
        environment = file.environment or session.profile.environment
        try:
            configs = read_configs(file, environment, types=types)
        except BadFile as error:
            cases.append(_bad_file(file, error))
        else:
            cases += (_judge(config, schema, remarks) for config in configs for schema in read)
    return JudgedFiles(cases, tuple(remarks))


def _judge(config: JudgedConfig, schema: SchemaFile, remarks: dict[str, None]) -> JudgedCase:
    # The module needs an extra, which `read_schema_file` has found.
    from pilothouse.judging.definitions import judge_all, plain_secrets  # noqa: PLC0415

    def evaluate(questions: Sequence[Question]) -> Sequence[Sequence[Verdict]] | None:
        try:
            return judge_rules(questions)
        except RulesNotJudged as error:
            remarks[str(error)] = None
            return None

    findings = judge_all(schema.definitions, config.tree, evaluate)
    for definition in schema.definitions:
        findings += plain_secrets(definition, config.tree, is_error=schema.refuses_plain_secrets)
    issues = [_issue(config, finding) for finding in findings]
    name = schema.definitions[0].name
    return JudgedCase(config.file.name, config.environment, name, issues)


def _issue(config: JudgedConfig, finding: Finding) -> Issue:
    position = config.position_of(finding.pointer)
    return Issue(config.file.name, config.environment, finding, position)


def _bad_file(file: ConfigFile, error: BadFile) -> JudgedCase:
    finding = Finding(file.form, 0, "", "", "file", "", f"cannot be read: {error.reason}")
    position = None if error.line is None else (error.line, error.column or 1)
    return JudgedCase(file.name, None, file.form, [Issue(file.name, None, finding, position)])


# By the service


def ask_service(session: Session, files: Sequence[ConfigFile], *, types: bool) -> JudgedFiles:
    """Ask the service what importing the files would violate; nothing is written."""
    judged: list[JudgedConfig] = []
    cases: list[JudgedCase] = []
    changes: list[dict[str, Any]] = []
    for file in files:
        target = file.environment or session.environment
        try:
            layers = read_layers(file, target, types=types)
            configs = {each.environment: each for each in read_configs(file, None, types=types)}
        except BadFile as error:
            cases.append(_bad_file(file, error))
            continue
        for environment, tree in layers.items():
            place = {"environment": environment, "service_name": file.service}
            changes.append({**place, "set": tree, "unset": []})
            shown = configs.get(environment) or configs[None]
            judged.append(JudgedConfig(file, environment, tree, shown.positions))
    if not changes:
        return JudgedFiles(cases)
    answer = session.api.send("POST", _VALIDATE, json={"changes": changes}).object()
    issues = list(_remote_issues(answer, judged))
    for config in judged:
        of_config = [issue for owner, issue in issues if owner is config]
        cases.append(JudgedCase(config.file.name, config.environment, _SERVICE, of_config))
    counts = (int(answer.get("affected") or 0), int(answer.get("violating") or 0))
    is_refused = answer.get("valid") is False
    hidden = [_HIDDEN] if is_refused and all(case.is_valid for case in cases) else []
    return JudgedFiles(cases, hidden, counts, is_refused)


def _remote_issues(
    answer: Mapping[str, Any], judged: Sequence[JudgedConfig]
) -> Iterator[tuple[JudgedConfig, Issue]]:
    for member, is_error in (("errors", True), ("warnings", False)):
        for problem in answer.get(member) or ():
            finding = _remote_finding(problem, is_error=is_error)
            owner = _owner(problem, finding, judged)
            position = owner.position_of(finding.pointer)
            environment = problem.get("environment") or owner.environment
            yield owner, Issue(owner.file.name, environment, finding, position)


def _remote_finding(problem: Mapping[str, Any], *, is_error: bool) -> Finding:
    key = str(problem.get("key") or "")
    keyword = str(problem.get("keyword") or problem.get("kind") or "x-rules")
    expected, rule = problem.get("expected"), problem.get("rule")
    if rule is not None:
        message = rule_message(rule, expected, is_undecided=problem.get("code") == "rule_undecided")
    elif "keyword" in problem:
        message = expectation(keyword, expected)
    else:
        message = str(problem.get("detail") or keyword)
    return Finding(
        schema=str(problem.get("schema") or ""),
        version=int(problem.get("schema_version") or 0),
        key=key,
        pointer=join_pointer("", *names_of(key)) if key else "",
        keyword=keyword,
        schema_pointer=str(problem.get("schema_pointer") or ""),
        message=message,
        expected=expected,
        rule=rule,
        is_error=is_error,
    )


def _owner(
    problem: Mapping[str, Any], finding: Finding, judged: Sequence[JudgedConfig]
) -> JudgedConfig:
    """Return the file that an error is about: of the same layer, with the key if one has it."""

    def fitness(config: JudgedConfig) -> tuple[bool, bool, bool]:
        return (
            config.file.service == problem.get("service_name"),
            config.environment == problem.get("environment"),
            finding.pointer in config.positions,
        )

    return max(judged, key=fitness)
