"""The meaning of each error code for a caller, one sentence a code."""

MEANINGS = {
    "release_not_found": "There is no such release.",
    "too_many_releases": "Too many releases are running; end one of them first.",
    "bad_webhook": "A webhook cannot be used; `errors` names the place. Nothing was changed.",
    "bad_webhook_name": "A webhook has a name outside the grammar of names.",
    "dead_letter_not_found": (
        "The webhook has no such dead letter: it was resent, or deleted after 14 days."
    ),
    "deliveries_unavailable": "The store of deliveries is unavailable. Try again.",
    "stale_webhook": "`If-Match` does not name the current version of the webhook. Read it again.",
    "too_many_webhooks": "There are 100 webhooks, and no more can be created.",
    "webhook_not_found": "There is no such webhook.",
    "bad_pin": "A pin is about nothing that a promotion could change: no key, or no name of a "
    "flag or segment.",
    "bad_rows": "Rows cannot be promoted: not in the comparison, pinned, chosen twice, or a "
    "secret without a value; `errors` names each. Nothing was written.",
    "bad_rule": (
        "A rule between fields cannot be used; `errors` names the place, `column` the character."
    ),
    "bad_schema": "A schema cannot be used; `errors` names the place. Nothing was changed.",
    "bad_schema_name": "A schema has a name outside the grammar of names, or a reserved one.",
    "comparison_moved": "An environment has changed since it was compared; compare again.",
    "default_conflict": "Two schemas have different defaults for one key. Nothing was changed.",
    "definition_contended": (
        "The configurations that a schema judges are being changed. Nothing was changed; try again."
    ),
    "definition_moved": (
        "The schema was changed by another request. Nothing was changed; try again."
    ),
    "definitions_unavailable": (
        "The store of schemas is unavailable, or has not been read since the start. Try again."
    ),
    "document_twice": "Two of the changes to validate are of the same layer.",
    "pin_not_found": "There is no such pin.",
    "promotions_unavailable": "The store of promotions does not answer.",
    "related_write_open": (
        "A write that is judged together with this one has not ended. Nothing was "
        "changed; try again."
    ),
    "rule_undecided": (
        "Rules between fields give no answer for what the write would make. Nothing was changed."
    ),
    "rules_unavailable": (
        "The process that evaluates rules between fields does not answer. Nothing was "
        "changed; try again."
    ),
    "same_environment": "An environment is compared with itself.",
    "schema_not_found": "The schema does not exist.",
    "schema_not_met": (
        "Configurations that exist do not meet a schema that is to be enforced; `errors` "
        "names them. Nothing was changed."
    ),
    "schema_too_costly": (
        "A configuration is too large for a schema with so many branches. Nothing was changed."
    ),
    "schema_version_not_found": "The schema does not have this version, or it is a deletion.",
    "schema_violated": (
        "Effective configurations would not meet an enforced schema; `errors` names each "
        "place. Nothing was changed."
    ),
    "secret_in_plain": (
        "A plain value lies where a schema has a secret, and is to be refused. Nothing was changed."
    ),
    "stale_schema": "`If-Match` names a version of the schema other than the current one.",
    "too_many_affected": (
        "The write changes more configurations with a schema than are judged at once. "
        "Nothing was changed."
    ),
    "access_open": "Tokens can be created only while access is required.",
    "audit_unavailable": "The audit store is unavailable. Try again.",
    "backend_unavailable": (
        "A server behind the service is unavailable. Nothing was changed; try again."
    ),
    "bad_content_length": "`Content-Length` is not a single whole number.",
    "bad_cursor": "The cursor was not issued by this list.",
    "bad_environment": "An environment of flags has a name outside the grammar.",
    "bad_file": "An imported file cannot be parsed as the stated format; nothing was written.",
    "bad_filter": "A stream filter names an environment or service outside the grammar of names.",
    "bad_flag": "A flag or segment breaks a rule; `errors` names the place. Nothing was changed.",
    "bad_host": "`Host` is missing, repeated, or not a name with an optional port.",
    "bad_http": "The request is not valid HTTP/1.1, or the framing of its body is too long.",
    "bad_idempotency_key": "`Idempotency-Key` is not 1 to 200 printable characters.",
    "bad_if_match": "`If-Match` is neither `*` nor a list of entity tags in double quotes.",
    "bad_instance": "A registration breaks a rule; `errors` names the place.",
    "bad_instance_environment": "An environment of instances has a name outside the grammar.",
    "address_contradicts": "The body and the query name different layers.",
    "copy_onto_itself": "The source and the target of a copy are the same layer.",
    "bad_json": "The body is not JSON, or is JSON that parsers read differently.",
    "bad_key": "A key is outside the grammar: it is empty, too long, or has a control character.",
    "bad_kind": "A stream filter names an unknown kind of change.",
    "bad_member": "A reserved member, `$secret` or `$value`, is used for something else.",
    "bad_moment": "A time in the query is not a valid RFC 3339 timestamp.",
    "bad_name": "An environment, a service or a user has a name outside the grammar.",
    "bad_path": "Servers interpret the path differently, for example because of `..` or `%2F`.",
    "bad_query": "The query is not UTF-8, or has a NUL character.",
    "bad_service_name": "A service or an instance has a name outside the grammar.",
    "bad_parameters": (
        "Values of a template's parameters do not fit; `errors` names each place. Nothing was "
        "written."
    ),
    "bad_policy": "A policy breaks a rule; `errors` names the place. Nothing was changed.",
    "bad_policy_name": "A policy has a name outside the grammar, or a reserved one.",
    "policy_not_found": "The policy does not exist, or is deleted.",
    "policy_version_not_found": "The policy does not have this version, or it is a deletion.",
    "stale_policy": "`If-Match` names a version of the policy other than the current one.",
    "proposal_needed": (
        "A policy, named in `policy`, asks for a proposal for this change. Nothing was changed."
    ),
    "access_is_open": "Policies need known callers, and `PILOTHOUSE_ACCESS` is `open`.",
    "bad_bypass_reason": "`Bypass-Reason` is empty, too long, or has control characters.",
    "bad_template_name": "A template has a name outside the grammar, or a reserved one.",
    "template_not_found": "The template does not exist, or is deleted.",
    "template_version_not_found": "The template does not have this version, or it is a deletion.",
    "template_not_applicable": (
        "The template may not be used for this environment and service; see its `applies_to`."
    ),
    "stale_template": "`If-Match` names a version of the template other than the current one.",
    "bad_template": "A template breaks a rule; `errors` names the place. Nothing was changed.",
    "secret_in_template": (
        "A template, or a parameter of one, would hold a secret, and both are stored plainly; `key`"
        " names the place."
    ),
    "bad_text": "The body is not UTF-8 text, or has a NUL character.",
    "change_log_unavailable": "The change log is unavailable. Nothing was changed; try again.",
    "config_store_unavailable": "The configuration store is unavailable. Nothing was changed.",
    "credentials_contradict": "`Authorization` and `X-API-Key` carry two different tokens.",
    "denied": "The caller lacks the right named in `right` for this environment or service.",
    "credential_in_plain_value": (
        "A plain value looks like a credential; `errors` names keys and rules."
    ),
    "document_exists": "The document to be created exists already.",
    "context_too_large": "The evaluation context takes more than 64 KiB as JSON.",
    "document_lost": "The store no longer has the current version of a document.",
    "document_malformed": "The current version was not written by Pilothouse and cannot be parsed.",
    "document_not_found": "The document does not exist, or is deleted.",
    "too_many_keys": "The document would have more keys than it may; none was checked.",
    "too_many_rows": "A comparison has more than 20,000 rows; name fewer services.",
    "workers_busy": "Too many large requests are waiting to be processed. Try again.",
    "document_too_large": "The document would take more than 768 KiB in the store.",
    "events_unavailable": "Kafka did not accept the events; they are sent again.",
    "file_too_complex": "The aliases of an imported file expand to too large a document.",
    "flag_archived": "The flag is archived; restore it, or delete it permanently.",
    "flag_exists": "The flag or segment to be created exists already.",
    "flag_in_use": (
        "A flag, variant or segment to be removed is still referenced; `users` lists the "
        "references."
    ),
    "flag_not_archived": "The flag to be restored is not archived.",
    "flag_not_found": "The flag does not exist in this environment.",
    "flag_references_missing": (
        "The target environment lacks segments or flags that the copied flag needs; `errors` "
        "names them. Nothing was changed."
    ),
    "flag_set_contended": "The write waited 10 s for other writers of the environment. Try again.",
    "flag_set_moved": "The flags were changed by another request. Nothing was changed; try again.",
    "flag_type_in_use": (
        "The flag was evaluated in the last 24 hours, and its type would change; `force=true` "
        "changes it."
    ),
    "flag_version_is_deletion": "The version to roll back to is a deletion of the flag.",
    "flag_version_mismatch": "`If-Match` names a version other than the current one.",
    "flag_version_not_found": "The flag does not have this version.",
    "flags_not_expressed": (
        "Flags of another system cannot be expressed here, or flags of Pilothouse cannot be "
        "expressed there; `errors` names each. Nothing was changed."
    ),
    "evaluation_too_long": "The requested flags could not be evaluated within 2 s.",
    "flags_unavailable": "The flag store is unavailable. Try again.",
    "foreign_host": "Access is open, and `Host` is neither loopback nor in `ALLOWED_HOSTS`.",
    "foreign_origin": (
        "Access is open, and the request comes from a page of another site; see `CORS_ORIGINS`."
    ),
    "headers_too_large": "The headers of the request take more than 64 KiB.",
    "idempotency_key_reused": "The `Idempotency-Key` was used for another request before.",
    "idempotency_key_taken": (
        "Another request with the `Idempotency-Key` was answered in the meantime."
    ),
    "in_doubt": "The answer would be incomplete, and incomplete is worse than an error here.",
    "instance_not_found": "The instance is not registered: it has to register again.",
    "instance_superseded": "The instance has a later registration or another owner.",
    "internal_error": "The service failed; its log has the reason under the `request_id`.",
    "invalid": "The request is invalid; `errors` names each place.",
    "issuer_unavailable": (
        "The keys of the OpenID Connect issuer have not been read yet; try again."
    ),
    "placeholder_cycle": "Placeholders refer to each other; `keys` lists the cycle.",
    "placeholder_limit": "Placeholders nest too deeply, or would expand to too large a value.",
    "contradictory_options": (
        "`resolve_placeholders`, `relaxed_names` and `defaults` apply to the merged current "
        "layers: they cannot be combined with `resolve=false` or `version`."
    ),
    "key_conflict": "A key cannot hold a value and be the section of another key at once.",
    "key_exists": "The key to be created exists in this layer already.",
    "key_missing": "Balancing by `hash` needs `key`.",
    "list_item": "A single item of a list cannot be removed or restored: write the whole list.",
    "key_twice": "The body gives one key two values, in two spellings.",
    "key_not_found": "The key does not exist in this layer, or in the effective configuration.",
    "method_not_allowed": "The route does not support this method; `Allow` lists those it does.",
    "not_expressible": (
        "A value cannot be written to a dotenv file so that all readers read it alike."
    ),
    "name_clash": "Two keys would get the same name in the exported file.",
    "no_instance": "The service has no available instance. Try again.",
    "no_such_route": "The route does not exist.",
    "nothing_masked": "The mask of a secret was sent for a key that holds no secret in this layer.",
    "old_epoch": (
        "The instance was registered again since; `current_epoch` is the number of that "
        "registration."
    ),
    "outcome_unknown": "The write was sent, and its outcome is not known yet.",
    "request_too_slow": "The request took more than 30 seconds to arrive.",
    "refused": "The request was refused for a reason without a code of its own.",
    "registry_in_doubt": "A server behind the registry is unavailable: the list may be incomplete.",
    "registry_nodes_unavailable": "ZooKeeper is unavailable. Registrations appear when it is back.",
    "registry_store_unavailable": "The registry store is unavailable. Nothing was changed.",
    "revision_not_reached": "This replica did not reach `min_revision` within two seconds.",
    "secret_unreadable": "A secret cannot be decrypted now.",
    "segment_not_found": "The segment does not exist in this environment.",
    "stale_version": "`If-Match` names a version other than the current one.",
    "state_in_use": "Another process uses the data folder.",
    "state_unavailable": "The SQLite file of the embedded backends cannot be read or written.",
    "bad_token": "The requested token is invalid; `errors` names each place.",
    "token_not_found": "No token has this id.",
    "token_store_unavailable": "The token store is unavailable. Try again.",
    "token_missing": "Access is required, and the request carries no token.",
    "token_refused": "The token is not valid, has expired or was revoked.",
    "tokens_unavailable": "The token is unknown, and the token store is unavailable; try again.",
    "trailers_refused": "Header fields after the body are not accepted.",
    "too_large": "The body takes more than 1 MiB.",
    "too_many": "Rate limit exceeded; try again later.",
    "too_many_instances": "The service has 10,000 registered instances, the maximum.",
    "too_many_refusals": (
        "The address has sent more requests without a valid token than `UNKNOWN_CALLER_LIMIT`."
    ),
    "too_many_requests": "The caller has sent more requests a second than `CALLER_REQUEST_LIMIT`.",
    "too_many_streams": (
        "This replica serves the maximum number of streams; try again, or another replica."
    ),
    "too_many_streams_of_caller": (
        "The caller has `CALLER_STREAM_LIMIT` open streams on this replica."
    ),
    "unparsable": "The request cannot be parsed.",
    "unsupported_media_type": "The media type of the body is not supported.",
    "version_gone": "The version existed, and the store no longer has it.",
    "version_is_deletion": "The version is the deletion of the document and has no content.",
    "version_not_found": "The document does not have this version.",
    "write_conflict": "Other callers kept writing the document. Nothing was changed; try again.",
    "write_not_found": "No write has this id.",
    "write_outcome_unknown": (
        "The write was sent and not answered; `/api/v1/writes/{intent}` shows its outcome."
    ),
}
