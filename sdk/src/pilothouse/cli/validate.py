"""Command `pilothouse validate`: files judged by schemas, here or by the service."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pilothouse.cli.commands import Session
from pilothouse.cli.exit_codes import ExitCode, usage
from pilothouse.cli.files import ConfigFile, Known, config_files, write_out
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
from pilothouse_core.judgement.words import expectation
from pilothouse_core.keys import is_key, names_of
from pilothouse_core.schema_index import join_pointer

Report = Literal["text", "sarif", "junit"]
FileFormat = Literal["yaml", "json", "properties", "dotenv"]
_VALIDATE = "/api/v1/validate"
_SERVICE = "the service"


def validate(
    session: Session,
    paths: Annotated[
        list[Path],
        typer.Argument(help="Files or folders; `-` is standard input.", metavar="FILE..."),
    ],
    *,
    schemas: Annotated[
        list[Path] | None,
        typer.Option(
            "--schema",
            help="A JSON Schema, or a body with it, JSON or YAML; nothing is sent. Repeatable. "
            "Without it, the service judges by its own schemas.",
        ),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="The key below which the schema judges.")
    ] = None,
    report: Annotated[Report, typer.Option("--format", help="The format of the report.")] = "text",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the report to this file.")
    ] = None,
    form: Annotated[
        FileFormat | None,
        typer.Option("--file-format", help="Of the files. Default: by their suffixes."),
    ] = None,
    types: Annotated[
        bool, typer.Option("--types", help="Types and keys in comments (properties, dotenv).")
    ] = False,
) -> None:
    """Judge files by schemas, without writing anything; exits with 8 if one is not met.

    With --schema nothing is sent. Without it, the service says what importing the files into
    --environment and --service would violate.
    """
    if at is not None and not schemas:
        raise usage("--at needs --schema")
    if at and not is_key(at):
        raise usage(f"--at: {at!r} is not a key")
    files, left_out = config_files(paths, form, session.profile.service, Known)
    for name, reason in left_out:
        session.output.note(f"{name}: not judged: {reason}")
    remarks: list[str] = []
    if schemas:
        read = [read_schema_file(path, at) for path in schemas]
        cases = _judge_files(session, files, read, remarks, types=types)
    else:
        cases = _ask_service(session, files, types=types)
    _print_report(session, cases, remarks, report, output)
    if not all(case.is_valid for case in cases):
        raise typer.Exit(ExitCode.INVALID)


def _print_report(
    session: Session,
    cases: Sequence[JudgedCase],
    remarks: Sequence[str],
    report: Report,
    output: Path | None,
) -> None:
    issues = issues_of(cases)
    errors = [issue.facts for issue in issues if issue.finding.is_error]
    warnings = [issue.facts for issue in issues if not issue.finding.is_error]
    for remark in remarks:
        session.output.note(f"warning: {remark}")
    if session.output.as_json:
        warned = [*warnings, *({"kind": "rules_not_judged", "detail": each} for each in remarks)]
        answer = {
            "valid": not errors,
            "errors": errors,
            "warnings": warned,
            "affected": len(cases),
            "violating": sum(not case.is_valid for case in cases),
        }
        return write_out(session, indented_json(answer), output)
    if report == "sarif":
        return write_out(session, sarif_report(cases, remarks), output)
    if report == "junit":
        return write_out(session, junit_report(cases), output)
    write_out(session, text_report(cases), output)
    counted = f"{len(errors)} errors, {len(warnings)} warnings"
    session.output.note(f"{counted} in {len({case.file for case in cases})} files")
    return None


# Here


def _judge_files(
    session: Session,
    files: Sequence[ConfigFile],
    schemas: Sequence[SchemaFile],
    remarks: list[str],
    *,
    types: bool,
) -> list[JudgedCase]:
    cases: list[JudgedCase] = []
    for file in files:
        environment = file.environment or session.profile.environment
        try:
            configs = read_configs(file, environment, types=types)
        except BadFile as error:
            cases.append(_bad_file(file, error))
        else:
            cases += (_judge(config, schema, remarks) for config in configs for schema in schemas)
    return cases


def _judge(config: JudgedConfig, schema: SchemaFile, remarks: list[str]) -> JudgedCase:
    # The module needs an extra, which `read_schema_file` has found.
    from pilothouse.judging.definitions import (  # noqa: PLC0415
        plain_secrets,
        question_of,
        rule_findings,
        schema_findings,
    )

    findings: list[Finding] = []
    for definition in schema.definitions:
        try:
            findings += schema_findings(definition, config.tree)
            findings += plain_secrets(
                definition, config.tree, is_error=schema.refuses_plain_secrets
            )
            question = question_of(definition, config.tree)
        except ValueError as error:  # too costly
            raise usage(f"{config.file.name}: {error}") from None
        if question is not None:
            try:
                [verdicts] = judge_rules([question])
            except RulesNotJudged as error:
                if str(error) not in remarks:
                    remarks.append(str(error))
            else:
                findings += rule_findings(definition, verdicts)
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


def _ask_service(session: Session, files: Sequence[ConfigFile], *, types: bool) -> list[JudgedCase]:
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
        return cases
    answer = session.api.send("POST", _VALIDATE, json={"changes": changes}).object()
    issues = list(_remote_issues(answer, judged))
    for config in judged:
        of_config = [issue for owner, issue in issues if owner is config]
        cases.append(JudgedCase(config.file.name, config.environment, _SERVICE, of_config))
    return cases


def _remote_issues(
    answer: Mapping[str, Any], judged: Sequence[JudgedConfig]
) -> Iterator[tuple[JudgedConfig, Issue]]:
    for member, is_error in (("errors", True), ("warnings", False)):
        for told in answer.get(member) or ():
            finding = _remote_finding(told, is_error=is_error)
            owner = _owner(told, finding, judged)
            position = owner.position_of(finding.pointer)
            environment = told.get("environment") or owner.environment
            yield owner, Issue(owner.file.name, environment, finding, position)


def _remote_finding(told: Mapping[str, Any], *, is_error: bool) -> Finding:
    key = str(told.get("key") or "")
    keyword = str(told.get("keyword") or told.get("kind") or "x-rules")
    expected, rule = told.get("expected"), told.get("rule")
    if rule is not None:
        message = rule_message(rule, expected, is_undecided=told.get("code") == "rule_undecided")
    elif "keyword" in told:
        message = expectation(keyword, expected)
    else:
        message = str(told.get("detail") or keyword)
    return Finding(
        schema=str(told.get("schema") or ""),
        version=int(told.get("schema_version") or 0),
        key=key,
        pointer=join_pointer("", *names_of(key)) if key else "",
        keyword=keyword,
        schema_pointer=str(told.get("schema_pointer") or ""),
        message=message,
        expected=expected,
        rule=rule,
        is_error=is_error,
    )


def _owner(
    told: Mapping[str, Any], finding: Finding, judged: Sequence[JudgedConfig]
) -> JudgedConfig:
    """Return the file that an error is about: of the same layer, with the key if one has it."""

    def fitness(config: JudgedConfig) -> tuple[bool, bool, bool]:
        return (
            config.file.service == told.get("service_name"),
            config.environment == told.get("environment"),
            finding.pointer in config.positions,
        )

    return max(judged, key=fitness)
