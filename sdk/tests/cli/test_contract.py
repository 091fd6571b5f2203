"""`--json` is a public contract: every command prints the API's own shapes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer.main import get_command

from pilothouse.cli.runner import app
from sdk.tests.cli.terminal import Terminal
from tests.servers.service import ServiceProcess


@dataclass(frozen=True)
class Contract:
    """A command with what it prints: one document, or one a line."""

    words: str
    schema: str = ""  # a schema of the API; empty: any object
    lines: bool = False
    code: int = 0


CONTRACTS = {
    "config get": Contract("config get db.host", "KeyOut"),
    "config set": Contract("config set db.host db2", "PatchOut"),
    "config unset": Contract("config unset db.host", "PatchOut"),
    "config list": Contract("config list", "Page_KeyOut_"),
    "config effective": Contract("config effective", "EffectiveOut"),
    "config edit": Contract("config edit", "PatchOut"),
    "config history": Contract("config history", "Page_DocumentChangeOut_"),
    "config diff": Contract("config diff", "DocumentDiffOut"),
    "config rollback": Contract("config rollback --to 1", "DocumentWrittenOut"),
    "config import": Contract("config import FILE", "ImportOut"),
    "config export": Contract("config export"),
    "config copy": Contract("config copy elsewhere", "LayerCopyOut"),
    "flags list": Contract("flags list", "Page_FlagOut_"),
    "flags get": Contract("flags get checkout", "FlagOut"),
    "flags stale": Contract("flags stale --days 0", "Page_StaleFlagOut_"),
    "flags create": Contract("flags create another", "FlagOut"),
    "flags set": Contract("flags set checkout --disabled", "FlagOut"),
    "flags delete": Contract("flags delete checkout"),
    "flags evaluate": Contract("flags evaluate checkout -u ann", "EvaluationOut"),
    "flags explain": Contract("flags explain checkout -u ann", "EvaluationOut"),
    "flags targets append": Contract("flags targets append checkout bob", "FlagTargetsOut"),
    "flags targets replace": Contract("flags targets replace checkout bob", "FlagTargetsOut"),
    "flags targets remove": Contract("flags targets remove checkout ann", "FlagTargetsOut"),
    "flags archive": Contract("flags archive checkout", "FlagOut"),
    "flags restore": Contract("flags restore put-away", "FlagOut"),
    "flags kill": Contract("flags kill checkout --reason errors", "FlagOut"),
    "flags rollback": Contract("flags rollback checkout 1", "FlagOut"),
    "flags copy": Contract("flags copy checkout elsewhere --dry-run", "FlagCopyOut"),
    "flags import": Contract("flags import FLAGS --format flagd", "FlagImportOut"),
    "flags export": Contract("flags export --leave-out"),
    "schema list": Contract("schema list", "Page_SchemaOut_"),
    "schema show": Contract("schema show NAME", "SchemaOut"),
    "schema set": Contract("schema set NAME SCHEMA", "SchemaWrittenOut"),
    "schema delete": Contract("schema delete NAME"),
    "schema history": Contract("schema history NAME", "Page_DefinitionVersionOut_"),
    "schema diff": Contract("schema diff NAME", "DefinitionDiffOut"),
    "schema rollback": Contract("schema rollback NAME 1", "SchemaWrittenOut"),
    "schema export": Contract("schema export", "SchemasOut"),
    "schema import": Contract("schema import SCHEMAS", "SchemasImportedOut"),
    "schema for": Contract("schema for", "AppliedSchemasOut"),
    "schema violations": Contract("schema violations", "ViolationsOut"),
    "schema from-pydantic": Contract("schema from-pydantic sdk.tests.cli.schema_models:Limits"),
    "template list": Contract("template list", "Page_TemplateOut_"),
    "template show": Contract("template show web", "TemplateOut"),
    "template set": Contract("template set web TEMPLATE", "TemplateWrittenOut"),
    "template delete": Contract("template delete web"),
    "template history": Contract("template history web", "Page_DefinitionVersionOut_"),
    "template diff": Contract("template diff web 1 1", "DefinitionDiffOut"),
    "template rollback": Contract("template rollback web 1", "TemplateWrittenOut"),
    "template use": Contract("template use web -p port=80", "TemplateUsedOut"),
    "template uses": Contract("template uses web", "TemplateUsesOut"),
    "template upgrade": Contract("template upgrade web", "TemplateUpgradesOut"),
    "policy list": Contract("policy list", "Page_PolicyOut_"),
    "policy show": Contract("policy show guard", "PolicyOut"),
    "policy set": Contract("policy set guard POLICY", "PolicyWrittenOut"),
    "policy delete": Contract("policy delete guard"),
    "policy history": Contract("policy history guard", "Page_DefinitionVersionOut_"),
    "proposal new": Contract("proposal new -t title db.host=db7", "ProposalOut"),
    "proposal revise": Contract("proposal revise PROPOSAL db.host=db8", "ProposalOut"),
    "proposal list": Contract("proposal list", "Page_ProposalSummaryOut_"),
    "proposal show": Contract("proposal show PROPOSAL", "ProposalOut"),
    "proposal diff": Contract("proposal diff PROPOSAL"),
    "proposal approve": Contract("proposal approve OTHERS", "ProposalOut"),
    "proposal refuse": Contract("proposal refuse OTHERS", "ProposalOut"),
    "proposal remark": Contract("proposal remark PROPOSAL -m why", "ProposalOut"),
    "proposal rebase": Contract("proposal rebase PROPOSAL", "ProposalOut"),
    "proposal apply": Contract("proposal apply PROPOSAL", "ProposalOut"),
    "proposal unschedule": Contract("proposal unschedule SCHEDULED", "ProposalOut"),
    "proposal withdraw": Contract("proposal withdraw PROPOSAL", "ProposalOut"),
    "webhook list": Contract("webhook list", "Page_WebhookOut_"),
    "webhook get": Contract("webhook get hook", "WebhookDetailOut"),
    "webhook put": Contract("webhook put hook WEBHOOK", "WebhookWrittenOut"),
    "webhook delete": Contract("webhook delete hook"),
    "webhook deliveries": Contract("webhook deliveries hook", "Page_AttemptOut_"),
    "webhook dead-letters": Contract("webhook dead-letters hook", "Page_DeadLetterOut_"),
    "webhook resend": Contract("webhook resend hook", "ResentOut"),
    "webhook test": Contract("webhook test hook", "AttemptOut", code=1),  # nothing answers there
    "release list": Contract("release list", "Page_ReleaseOut_"),
    "release show": Contract("release show RELEASE", "ReleaseOut"),
    "release next": Contract("release next RELEASE", "ReleaseOut"),
    "release hold": Contract("release hold RELEASE", "ReleaseOut"),
    "release resume": Contract("release resume RELEASE", "ReleaseOut"),
    "release abort": Contract("release abort RELEASE -m slow", "ReleaseOut"),
    "readers": Contract("readers", "Page_ReaderOut_"),
    "services list": Contract("services list", "ServicesOut"),
    "services register": Contract("services register pay http://10.0.0.9:80", "RegisteredOut"),
    "services discover": Contract("services discover pay", "DiscoveredOut"),
    "services drain": Contract("services drain pay pay-9", "DrainedOut"),
    "services release": Contract("services release pay", "ReleasedOut"),
    "changes tail": Contract("changes tail", "ChangeOut", lines=True),
    "token create": Contract("token create ci --class admin", "TokenMadeOut"),
    "token list": Contract("token list", "Page_TokenKnownOut_"),
    "token revoke": Contract("token revoke TOKEN", "TokenKnownOut"),
    "audit": Contract("audit", "Page_AuditRowOut_"),
    "export-all": Contract("export-all FOLDER"),
    "apply": Contract("apply FOLDER --dry-run"),
    "validate": Contract("validate FILE --schema SCHEMA"),
    "promote": Contract("promote --from default --to elsewhere --yes", "PromotionOut"),
    "login": Contract("login --token -"),
}
ALSO = (
    Contract("config history db.host", "Page_KeyChangeOut_"),
    Contract("config rollback db.host --to 1", "KeyOut"),
    Contract("config import FILE --dry-run", "ImportOut"),
    *(
        Contract(f"flags {words} --dry-run", "WritePreviewOut")
        for words in (
            "create another",
            "set checkout --disabled",
            "delete checkout",
            "archive checkout",
            "restore put-away",
            "rollback checkout 1",
            "kill checkout --reason errors",
        )
    ),
    Contract("proposal new -t title db.host=db7 --dry-run", "ProposalPreviewOut"),
    Contract("proposal apply PROPOSAL --wait", "ProposalOut"),
    Contract("schema set NAME SCHEMA --dry-run", "SchemaWrittenOut"),
    Contract("schema show NAME --version 1", "SchemaOut"),
    Contract("schema import SCHEMAS --dry-run", "SchemasImportedOut"),
    Contract("promote --from default --to elsewhere --dry-run", "ComparisonOut"),
    Contract("validate FILE"),
    Contract("flags evaluate", "BatchOut"),
    Contract("flags export --format pilothouse"),
    Contract("services discover pay --all", "ServiceOut"),
    Contract("audit --export -", "AuditRowOut", lines=True),
)
FLAGD = {"flags": {"w": {"state": "ENABLED", "variants": {"on": True}, "defaultVariant": "on"}}}
WEBHOOK = {"url": "http://127.0.0.1:9/hook", "kinds": ["config"], "environments": ["nowhere"]}
POLICY = {"kinds": ["webhook"], "environments": ["nowhere"]}
TEMPLATE = {"parameters": {"properties": {"port": {}}}, "data": {"http.port": {"$param": "port"}}}
# What goes on until Ctrl-C: test_watching.py
ENDLESS = {"config watch"}


@pytest.fixture(scope="module")
def schemas(service: ServiceProcess) -> Any:
    return service.request("GET", "/openapi.json").json()["components"]["schemas"]


@pytest.fixture
def filled_terminal(pilothouse: Terminal, service: ServiceProcess, tmp_path: Path) -> Terminal:
    """A terminal whose service has a key, a flag and an instance."""
    name = pilothouse.variables["PILOTHOUSE_SERVICE"]
    headers = {"Authorization": f"Bearer {pilothouse.variables['PILOTHOUSE_TOKEN']}"}
    flag = {"name": "checkout", "environment": name, "target_users": ["ann"]}
    instance = {"service_name": "pay", "service_url": "http://10.0.0.9:81", "instance_id": "pay-9"}
    for method, path, body in (
        ("PUT", "/api/v1/templates/web", TEMPLATE),
        ("PUT", "/api/v1/policies/guard", POLICY),
        ("PUT", "/api/v1/webhooks/hook", WEBHOOK),
        ("PUT", f"/api/v1/schemas/{name}", {"schema": {"title": "the first"}, "mode": "warn"}),
        ("PUT", f"/api/v1/schemas/{name}", {"schema": {"required": ["none"]}, "mode": "warn"}),
        ("PATCH", f"/api/v1/config?service_name={name}", {"set": {"db.host": "db1"}}),
        ("PATCH", f"/api/v1/config?service_name={name}", {"set": {"db.port": 1}}),
        ("POST", "/api/v1/feature-flags", flag),
        ("POST", "/api/v1/feature-flags", {**flag, "name": "put-away"}),
        ("POST", f"/api/v1/feature-flags/put-away/archive?environment={name}", None),
        ("POST", "/api/v1/registry/register", instance),
    ):
        assert service.request(method, path, body, headers=headers).status < 300
    (tmp_path / "file.yaml").write_text("db.host: db3\n")
    (tmp_path / "schema.json").write_text("{}")
    listed = {"schemas": {name: {"schema": {"title": "imported"}}}}
    (tmp_path / "schemas.json").write_text(json.dumps(listed))
    (tmp_path / "template.json").write_text(json.dumps(TEMPLATE))
    (tmp_path / "policy.json").write_text(json.dumps({**POLICY, "approvals": 2}))
    (tmp_path / "webhook.json").write_text(json.dumps(WEBHOOK))
    (tmp_path / "flags.json").write_text(json.dumps(FLAGD))
    pilothouse.variables["EDITOR"] = "sed -i s/db1/db9/"
    return pilothouse


def words_of(contract: Contract, terminal: Terminal, folder: Path) -> list[str]:
    words = contract.words.split()
    if words[0] == "flags":
        words += ["-e", terminal.variables["PILOTHOUSE_SERVICE"]]
    places = {"FILE": str(folder / "file.yaml"), "FLAGS": str(folder / "flags.json")}
    places["FOLDER"] = str(folder)
    places["TEMPLATE"] = str(folder / "template.json")
    places["POLICY"] = str(folder / "policy.json")
    places["WEBHOOK"] = str(folder / "webhook.json")
    places["SCHEMA"] = str(folder / "schema.json")
    places["SCHEMAS"] = str(folder / "schemas.json")
    places["NAME"] = terminal.variables["PILOTHOUSE_SERVICE"]
    if "TOKEN" in words:
        made = terminal.ok("token", "create", "gone", "--class", "admin", "--json").json()
        places["TOKEN"] = made["id"]
    if "RELEASE" in words:
        places["RELEASE"] = make_release(terminal, folder)
    for word in {"PROPOSAL", "OTHERS", "SCHEDULED"} & {*words}:
        places[word] = make_proposal(word, terminal)
    return [places.get(word, word) for word in words]


def make_proposal(word: str, terminal: Terminal) -> str:
    """Make a proposal of the caller's, perhaps scheduled, or one that the caller may review."""
    if word == "OTHERS":
        words = ("--class", "operator", "--role", "publisher")
        author, reviewer = (
            terminal.ok("token", "create", name, *words).out.strip() for name in ("one", "two")
        )
        terminal.variables["PILOTHOUSE_TOKEN"] = author
    made = terminal.ok("proposal", "new", "-t", "title", "db.host=db8", "--json").json()
    if word == "SCHEDULED":
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        terminal.ok("proposal", "apply", made["id"], "--at", tomorrow.isoformat())
    if word == "OTHERS":
        terminal.variables["PILOTHOUSE_TOKEN"] = reviewer
    return str(made["id"])


def make_release(terminal: Terminal, folder: Path) -> str:
    """Begin to release a change of an environment of the caller's own."""
    plan = folder / "plan.json"
    plan.write_text(json.dumps({"steps": [{"share": 5, "hold": "1h"}]}))
    words = ("-t", "title", "-e", terminal.variables["PILOTHOUSE_SERVICE"], "db.host=db8")
    made = terminal.ok("proposal", "new", *words, "--json").json()
    begun = terminal.ok("proposal", "apply", made["id"], "--release", str(plan), "--json").json()
    return str(begun["release_id"])


@pytest.mark.parametrize(
    "contract", [*CONTRACTS.values(), *ALSO], ids=lambda contract: contract.words
)
def test_every_command_prints_the_shapes_of_the_api(
    contract: Contract, filled_terminal: Terminal, schemas: Any, tmp_path: Path
) -> None:
    token = filled_terminal.variables["PILOTHOUSE_TOKEN"]
    words = words_of(contract, filled_terminal, tmp_path)

    done = filled_terminal(*words, "--json", stdin=token)

    assert done.code == contract.code, done.err
    documents = done.lines() if contract.lines else [done.json()]
    schema: dict[str, Any] = {"type": "object"}
    if contract.schema:
        schema = {
            "$ref": f"#/components/schemas/{contract.schema}",
            "components": {"schemas": schemas},
        }
    validator = Draft202012Validator(schema)
    assert documents
    assert [error.message for one in documents for error in validator.iter_errors(one)] == []
    assert done.err == ""


def commands(command: Any, path: str = "") -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path
    for name, subcommand in (inner or {}).items():
        yield from commands(subcommand, f"{path} {name}".strip())


def test_every_command_has_a_contract() -> None:
    assert set(commands(get_command(app))) == {*CONTRACTS, *ENDLESS}


def test_every_command_stands_on_the_page() -> None:
    page = (Path(__file__).parents[3] / "docs/client/cli.md").read_text()

    assert [name for name in commands(get_command(app)) if f"`{name}" not in page] == []


@pytest.mark.parametrize("name", [*CONTRACTS, *ENDLESS])
def test_every_command_has_help_with_the_shared_options(nowhere: Terminal, name: str) -> None:
    done = nowhere.ok(*name.split(), "--help")

    assert done.out.strip()
    for option in ("--service", "--environment", "--user", "--url", "--token", "--profile"):
        assert option in done.out
