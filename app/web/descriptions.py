"""Shared descriptions of members and parameters in the OpenAPI document.

A description of a field in its schema or route takes precedence.
"""

from typing import Any

TAGS: dict[str, str] = {
    "configurations by key": "Read and write single keys. A read answers the value that the "
    "layers (global, environment, service, user) merge to, with the layer it comes from.",
    "configurations by document": "Read and write whole layers of a service, not merged, "
    "with their history, differences and rollback.",
    "schemas": "What effective configurations have to meet: JSON Schemas, secret places, defaults "
    "and rules between fields. Writes are judged by them, and can be judged before.",
    "import and export": "Configuration files in YAML, JSON, Java properties and dotenv.",
    "templates": "Keys that many documents have in common, with parameters: define them, use them "
    "in documents, upgrade the documents that use them.",
    "feature flags": "Define flags, evaluate them one by one, in batches or explained, and "
    "read how often they are used. `flag-set` is for clients that evaluate locally.",
    "segments": "Conditions with a name, shared by flags.",
    "OpenFeature": "The OpenFeature Remote Evaluation Protocol (OFREP), for OpenFeature clients.",
    "registry": "Register instances, keep them alive, discover and balance them.",
    "changes": "The log of all changes, the stream of changes, and the outcomes of writes.",
    "webhooks": "Changes sent to receivers over HTTP: signed, tried again, and kept where a "
    "receiver does not take them.",
    "tokens": "Tokens of machines: create, list, revoke.",
    "audit": "Who did what, when and from where.",
    "health": "Liveness, readiness, health, metrics and figures of this replica.",
}

# By name of the member; by `Schema.member` where one schema means something else.
_MEMBERS: dict[str, str] = {
    "action": "What was done, such as `created`, `updated`, `deleted` or `rolled_back`.",
    "actor": "Who did it: `token:NAME`, a person, or `anonymous` while access is open.",
    "adapter": "The server behind the port, or `embedded`.",
    "added": "New keys with their values.",
    "address": "Host name or address.",
    "at": "When it happened (RFC 3339, UTC).",
    "bucket": "The bucket of the subject in the rollout that decided, null without a rollout.",
    "changed": "Keys whose value differs: `{old, new}`.",
    "changes": "What the import changes in this layer.",
    "changes_last_hour": "Changes of the last hour.",
    "code": "Stable code for programs.",
    "comment": "The reason for the change, as stated by its actor.",
    "config_data": "The document's data: nested objects, or dotted keys.",
    "created_at": "When it was created (RFC 3339, UTC).",
    "created_by": "Who created it.",
    "data": "The merged configuration, masked unless revealed.",
    "default_variant": "Variant that is served when no rule decides; null: the caller's default.",
    "description": "Free text for people.",
    "detail": "The problem in a sentence, for people; may change.",
    "documents": "Configuration documents that are not deleted.",
    "dry_run": "True if nothing was written.",
    "enabled": "Whether the flag is on; a flag that is off serves `off_variant`.",
    "encrypt": "Keys to encrypt where they are stored.",
    "entity": "Name of the changed document, flag, segment, instance or token.",
    "environment": "Environment; all others inherit from `default`.",
    "environments": "Environments: names, `*` matches any characters.",
    "epoch": "Number of the registration; null for instances that others registered.",
    "error": "Why it failed; null if it did not.",
    "errors": "Every error, with its place.",
    "expires_at": "When it ends (RFC 3339, UTC); null: never.",
    "explanation": "The trace of every rule and condition, if it was requested.",
    "flag_name": "Name of the flag.",
    "flag_version": "Version of the flag that was evaluated.",
    "flags": "Flags.",
    "format": "Format of the file.",
    "grace_seconds": "Seconds until a draining instance is removed, 0 to 86,400.",
    "healthy": "Whether the check succeeded.",
    "health_check_url": "URL that the service probes; null: the instance sends heartbeats.",
    "id": "Identifier.",
    "instance_id": "Id of the instance, unique within its service.",
    "instances": "Registered instances.",
    "intent": "Id of the write, from the problem `write_outcome_unknown`.",
    "is_encrypted": "Whether the value is a secret, encrypted where it is stored.",
    "items": "The items, in the order of the list.",
    "key": "Dotted path of the key, such as `database.pool.size`.",
    "keys": "Dotted paths of keys.",
    "kind": "Kind of what was changed: `config`, `flag`, `segment`, `instance`, `token`, "
    "`schema` or `template`.",
    "labels": "Labels that Prometheus attaches to the target.",
    "last-event-id": "Id of the last event the client has seen; the stream resumes after it.",
    "last_evaluated_at": "When it was last evaluated, by any client; null: never.",
    "latency_ms": "Milliseconds that the last check took.",
    "lease": "How the instance stays alive.",
    "live": "Whether the process runs.",
    "metadata": "Texts by name, given at registration.",
    "milliseconds": "Milliseconds that the check took.",
    "missing": "The keys that do not exist.",
    "name": "Name.",
    "new": "The value after the change.",
    "new_version": "The later version; default: the current one.",
    "next": "Cursor of the next page; null on the last.",
    "off_variant": "Variant that is served while the flag is off; null: the caller's default.",
    "old": "The value before the change.",
    "old_version": "The earlier version; default: the one before.",
    "owner": "Person or team that looks after the flag.",
    "port": "Port that the instance listens on.",
    "ports": "Every server behind the service, with its state.",
    "protected": "Self-preservation: too many instances vanished at once, so none is evicted.",
    "reason": "Why, in a few words.",
    "registered_at": "When it was registered (RFC 3339, UTC).",
    "removed": "Removed keys, with their last values.",
    "removed_at": "When it is removed from the registry (RFC 3339, UTC).",
    "request_id": "Id of the request, as in `X-Request-Id` and in the log.",
    "results": "One result for each instance.",
    "revision": "Position in the log of all changes; grows with every change.",
    "revoked_at": "When it was revoked (RFC 3339, UTC); null: it was not.",
    "roles": "Roles of the token.",
    "rule_id": "Id of the rule that decided; null if none did.",
    "scheme": "Scheme of the instance's URL.",
    "segments": "Segments.",
    "service": "Name of the service.",
    "service_name": "Service; `_shared` is the layer that all services inherit.",
    "service_url": "URL at which the instance is reached.",
    "services": "Services: names, `*` matches any characters.",
    "set": "New values by key.",
    "source": "Where it comes from.",
    "stale": "A server behind the service is unavailable: this is the last known state.",
    "state": "State.",
    "status": "Status.",
    "strategy": "How one instance is chosen.",
    "tags": "Free labels, for filters.",
    "targets": "`host:port` of the instances.",
    "title": "The code in words.",
    "type": "Type.",
    "unset": "Keys to remove.",
    "up": "Instances that can be used.",
    "updated_at": "When it was last changed (RFC 3339, UTC).",
    "updated_by": "Who changed it last.",
    "url": "URL of the chosen instance.",
    "user": "User whose layer is meant; null: none.",
    "value": "Any JSON value.",
    "variants": "Values by variant name, all of the flag's type.",
    "version": "Version, from 1 on; every change makes a new one.",
    "warmup_seconds": "Seconds over which the share of a new instance grows.",
    "weight": "Relative share of requests, 0 to 1000.",
    "zone": "Zone of the instance, for callers that prefer their own.",
}
_PARTICULAR: dict[str, str] = {
    "ArrivalOut.kind": "What was imported.",
    "ArrivalOut.status": "What the import does to it.",
    "AuditRowOut.name": "Name of what it was done to; of a document `service` or `service/user`.",
    "BatchOut.evaluations": "Evaluations by flag name.",
    "DeregisteredOut.status": "Always `deregistered`.",
    "DocumentIn.created_by": "Person on whose behalf the change is made; added to the comment.",
    "DrainedOut.status": "Always `draining`.",
    "EffectiveOut.user": "User whose layer was merged; null: none.",
    "EvaluationOut.environment": "Environment in which the flag was evaluated.",
    "EvaluationOut.value": "The value of the served variant.",
    "HealthOut.status": "`ok`, `degraded` (reads are served) or `unavailable`.",
    "ImportedOut.status": "What happened to the layer.",
    "ImportOut.documents": "One entry for each layer that the file names.",
    "InstanceOut.environment": "Environment of the instance; null: of all.",
    "InstanceOut.status": "Only `up` (and, in doubt, `suspect`) is discovered.",
    "InstanceOut.version": "Version of the software that the instance runs.",
    "LeaseOut.kind": "`heartbeat`: the instance reports; `probe`: the service checks it.",
    "LiveOut.status": "Always `live`.",
    "PortStatus.detail": "Why it is unavailable; null if it is not.",
    "PortStatus.name": "Name of the port, such as `configs` or `flags`.",
    "PortStatus.status": "`up`, `down`, or unknown until the first check.",
    "Problem.status": "The HTTP status.",
    "Problem.type": "URN of the code.",
    "ReadyOut.status": "`ready`, `degraded` or `unavailable`.",
    "RegisterIn.version": "Version of the software that the instance runs.",
    "ResultOut.status": "Status of the instance after the check.",
    "RollbackIn.version": "The version to go back to.",
    "StatsOut.environments": "Environments that have documents or flags.",
    "StatsOut.services": "Services that have documents.",
    "TokenKnownOut.state": "`active`, `expired` or `revoked`.",
    "TokenKnownOut.id": "Id of the token; not the secret.",
    "TokenMadeOut.id": "Id of the token; not the secret.",
    "TokenKnownOut.name": "Name of the token; the actor of its changes is `token:NAME`.",
    "TokenMadeOut.name": "Name of the token; the actor of its changes is `token:NAME`.",
    "WarningOut.key": "The key that holds it.",
    "WriteStateOut.status": "Whether the write was stored.",
}


def describe(document: dict[str, Any]) -> None:
    """Add a description to every member and parameter of an OpenAPI document that lacks one."""
    for schema_name, schema in document["components"]["schemas"].items():
        for name, member in schema.get("properties", {}).items():
            text = _PARTICULAR.get(f"{schema_name}.{name}") or _MEMBERS.get(name)
            if text is not None:
                member.setdefault("description", text)
    for operation in _operations(document):
        for parameter in operation.get("parameters", ()):
            if "description" not in parameter.get("schema", {}) and parameter["name"] in _MEMBERS:
                parameter.setdefault("description", _MEMBERS[parameter["name"]])


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]
