"""What the tests of names and sizes let pass, and why."""

_ASYNC_TWIN = "the asynchronous form of a public class, with a method of the same name for each"
_SPLIT_LATER = "to be divided: it does more than one thing"
_ONE_ADAPTER = "one method for each promise of its port"

PARTICIPLES = {
    "held": "public: what `Configuration` holds, under its earlier name",
    "succeeded": "public: what `ConfigMetrics` counts, beside `failed`",
}

_COMMAND = "the name of the command"
_PRINTS = "of `output`, which prints what it names"
_FROM_OUTSIDE = "the name that the caller's library gives"

NO_VERBS = {
    "_alias": "an event of the YAML parser",
    "_scalar": "an event of the YAML parser",
    "changes": _PRINTS,
    "connection_lost": _FROM_OUTSIDE,
    "connection_made": _FROM_OUTSIDE,
    "data_received": _FROM_OUTSIDE,
    "dead_letters": _COMMAND,
    "deliveries": _COMMAND,
    "diff": _COMMAND,
    "document": _PRINTS,
    "done": _PRINTS,
    "effective": _COMMAND,
    "fact": _PRINTS,
    "for_": _COMMAND,
    "from_pydantic": _COMMAND,
    "history": _COMMAND,
    "line": _PRINTS,
    "login": _COMMAND,
    "main": "the entry of a program",
    "new": _COMMAND,
    "raw": _PRINTS,
    "rollback": _COMMAND,
    "shutdown": _FROM_OUTSIDE,
    "shutdown_config_manager": "public",
    "shutdown_config_manager_sync": "public",
    "sources_healthy": "public: the number that it sets",
    "startup": _FROM_OUTSIDE,
    "table": _PRINTS,
    "tail": _COMMAND,
    "test": _COMMAND,
    "tree": _PRINTS,
    "violations": _COMMAND,
}

SAME_NAMES = {
    "sdk/src/pilothouse ConfigManager": "pilothouse.hot_reload is the awaited form of reload",
    "sdk/src/pilothouse ConfigSource": "the same",
    "sdk/src/pilothouse EnvironmentConfigSource": "the same",
    "sdk/src/pilothouse FileConfigSource": "the same",
    "sdk/src/pilothouse RemoteConfigSource": "the same",
}

LONG_MODULES = {
    "app/configs/api/router_keys.py": "every route of configurations by key",
    "app/configs/api/schemas.py": "every body of configurations",
    "app/configs/secrets.py": "secrets in trees and in lists, pure",
    "app/flags/evaluation/evaluator.py": "the fast path of evaluations",
    "app/flags/api/schemas.py": "every body of flags",
    "app/flags/definitions/plans.py": "every plan",
    "app/importers/flagd.py": "one format",
    "app/postgres/tables.py": "every table",
    "app/importers/jsonlogic.py": "one language",
    "app/importers/unleash_constraints.py": "one format",
    "app/registry/instances/embedded.py": _ONE_ADAPTER,
    "app/registry/instances/postgres.py": _ONE_ADAPTER,
    "app/settings.py": "every setting, with its description",
    "app/telemetry.py": "every metric, with its description",
    "app/wiring.py": "the choice of every adapter",
    "app/sqlite/state.py": "the embedded store, with its steps of migration",
    "core/src/pilothouse_core/evaluation.py": "the evaluation of flags, compiled into closures",
    "sdk/src/pilothouse/cli/config.py": "every command of `pilothouse config`",
    "sdk/src/pilothouse/cli/flags.py": "every command of `pilothouse flags`",
    "sdk/src/pilothouse/client.py": "the public client, in both forms",
    "sdk/src/pilothouse/hot_reload.py": "one importable module, as its documentation promises",
    "sdk/src/pilothouse/transport.py": "the one file that knows the HTTP library",
}

BIG_CLASSES = {
    "app/rules/verifier.py Verifier": "what is noted, judged and reported of each change",
    "app/rules/services/schemas.py SchemaService": "every use case of schemas",
    "app/access/tokens/cache.py TokenCache": "what the fast path asks of tokens",
    "app/cache/redis.py RedisCache": _ONE_ADAPTER,
    "app/flags/evaluation/evaluator.py FlagEvaluator": "the fast path of evaluations",
    "app/importers/jsonlogic.py Logic": "one method for each operator",
    "app/proposals/items/configs.py ConfigItems": _ONE_ADAPTER,
    "app/proposals/items/definitions.py DefinitionItems": _ONE_ADAPTER,
    "app/proposals/items/flags.py FlagItems": _ONE_ADAPTER,
    "app/registry/instances/embedded.py EmbeddedInstanceStore": _ONE_ADAPTER,
    "app/registry/instances/port.py InstanceStore": "every transition of an instance",
    "app/registry/instances/postgres.py PostgresInstanceStore": _ONE_ADAPTER,
    "app/registry/nodes/embedded.py EmbeddedServiceRegistryClient": _ONE_ADAPTER,
    "app/registry/nodes/zookeeper/client.py ZooKeeperServiceRegistryClient": _ONE_ADAPTER,
    "app/registry/nodes/zookeeper/session.py ZooKeeperSession": "the states of one session",
    "app/registry/nodes/zookeeper/view.py ZooKeeperView": "the view of one session",
    "app/settings.py Settings": "a validator for each group of settings",
    "app/web/connection.py Protocol": "callbacks of the HTTP parser",
    "sdk/src/pilothouse/client.py AsyncPilothouse": _ASYNC_TWIN,
    "sdk/src/pilothouse/configuration.py Configuration": "a typed getter for each kind of value",
    "sdk/src/pilothouse/flags/evaluation.py Flags": "a typed getter for each kind of value",
    "sdk/src/pilothouse/hot_reload.py ConfigManager": _ASYNC_TWIN,
    "sdk/src/pilothouse/registry/registration.py AsyncRegistration": _ASYNC_TWIN,
    "sdk/src/pilothouse/registry/zookeeper.py ZooKeeperRegistration": "callbacks of the session",
    "sdk/src/pilothouse/reload/manager.py ConfigManager": "the public manager, in both forms",
}

LONG_FUNCTIONS = {
    "app/changes/log/sqlite_log.py append_change": "one statement of SQL",
    "app/configs/api/router_keys.py get": "the parameters of the route",
    "app/flags/api/router.py _add_list": "the parameters of the route",
    "app/flags/api/router_transfer.py import_flags": "the parameters of the route",
    "app/wiring.py open_backends": "one line for each setting",
    "migrations/versions/0001_change_log.py upgrade": "SQL",
    "sdk/src/pilothouse/cli/flags.py import_": "the options of the command",
    "sdk/src/pilothouse/cli/validate.py validate": "the options of the command",
}
