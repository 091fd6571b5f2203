"""Figures of the names in the code: `python -m tests.house.vocabulary` prints them.

A participle is counted if it is the whole name of a function, `told` or `_checked`: such a name
says neither what acts nor what is computed.
"""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MOST_LINES, MOST_METHODS, LONGEST_FUNCTION = 400, 15, 50  # beyond these, a reason is needed
FOLDERS = ("app", "core/src", "sdk/src", "migrations")
TEST_FOLDERS = ("benchmarks", "sdk/tests", "tests")  # only the names of functions are counted
_IRREGULAR = frozenset(
    [
        "begun",
        "bound",
        "broken",
        "built",
        "chosen",
        "cut",
        "drawn",
        "fed",
        "found",
        "given",
        "heard",
        "held",
        "hidden",
        "kept",
        "known",
        "laid",
        "led",
        "left",
        "lost",
        "made",
        "met",
        "paid",
        "put",
        "said",
        "seen",
        "sent",
        "set",
        "shown",
        "sold",
        "spent",
        "spoken",
        "stood",
        "taken",
        "thought",
        "told",
        "won",
        "worn",
        "written",
    ]
)
# The first words of what acts. A new verb may be added; a noun, an adjective or an adverb may not.
_VERBS = frozenset(
    [
        "abandon",
        "accept",
        "aclose",
        "acquire",
        "add",
        "adopt",
        "advance",
        "announce",
        "answer",
        "append",
        "apply",
        "approve",
        "archive",
        "assert",
        "attach",
        "audit",
        "await",
        "beat",
        "begin",
        "build",
        "call",
        "cancel",
        "catch",
        "change",
        "check",
        "claim",
        "clear",
        "close",
        "collapse",
        "collect",
        "compare",
        "complete",
        "configure",
        "connect",
        "continue",
        "convert",
        "copy",
        "count",
        "create",
        "cut",
        "decide",
        "decode",
        "define",
        "delete",
        "deliver",
        "demand",
        "deny",
        "descend",
        "describe",
        "detach",
        "disable",
        "discard",
        "disclose",
        "discover",
        "distrust",
        "do",
        "drain",
        "drop",
        "edit",
        "emit",
        "empty",
        "encode",
        "end",
        "ensure",
        "enter",
        "evaluate",
        "evict",
        "exempt",
        "expire",
        "explain",
        "export",
        "extend",
        "feed",
        "fetch",
        "fill",
        "find",
        "finish",
        "flush",
        "follow",
        "forget",
        "forward",
        "freeze",
        "get",
        "give",
        "go",
        "greet",
        "group",
        "grow",
        "handle",
        "hang",
        "hide",
        "hold",
        "import",
        "include",
        "index",
        "initialize",
        "insert",
        "inspect",
        "install",
        "interrupt",
        "join",
        "judge",
        "keep",
        "kill",
        "learn",
        "leave",
        "let",
        "list",
        "listen",
        "load",
        "lock",
        "log",
        "look",
        "lose",
        "make",
        "mark",
        "match",
        "measure",
        "merge",
        "migrate",
        "move",
        "name",
        "note",
        "notify",
        "observe",
        "open",
        "override",
        "overrule",
        "parse",
        "pause",
        "ping",
        "place",
        "plan",
        "prepare",
        "print",
        "probe",
        "promote",
        "protect",
        "publish",
        "pull",
        "push",
        "put",
        "raise",
        "read",
        "reap",
        "rebase",
        "reconcile",
        "record",
        "redirect",
        "refresh",
        "refuse",
        "register",
        "reject",
        "release",
        "reload",
        "remark",
        "remember",
        "remove",
        "rename",
        "render",
        "renew",
        "replace",
        "report",
        "require",
        "resend",
        "reset",
        "resolve",
        "respond",
        "rest",
        "restart",
        "restore",
        "resume",
        "retry",
        "return",
        "reveal",
        "review",
        "revise",
        "revoke",
        "roll",
        "rotate",
        "run",
        "save",
        "say",
        "scan",
        "seal",
        "select",
        "send",
        "serve",
        "set",
        "settle",
        "shape",
        "share",
        "show",
        "sign",
        "skip",
        "sort",
        "spawn",
        "spend",
        "split",
        "start",
        "stop",
        "store",
        "stream",
        "subscribe",
        "supervise",
        "swap",
        "take",
        "tell",
        "terminate",
        "tick",
        "touch",
        "translate",
        "trim",
        "try",
        "unlock",
        "unregister",
        "unschedule",
        "unset",
        "unsubscribe",
        "update",
        "upgrade",
        "validate",
        "verify",
        "visit",
        "wait",
        "wake",
        "warn",
        "watch",
        "withdraw",
        "wrap",
        "write",
        "yield",
    ]
)
_CALLBACKS = frozenset({"after", "before", "on"})  # `on_change` names what it is called at
_VERBS_AS_WELL = frozenset({"cut", "found", "put", "set"})  # as a verb of an acting function


@dataclass(frozen=True, slots=True)
class Function:
    """A function or method: where it is, its name without underscores before it, what it is."""

    path: str
    line: int
    name: str
    lines: int
    returns_nothing: bool
    is_property: bool

    @property
    def words(self) -> list[str]:
        return self.name.strip("_").split("_")

    @property
    def is_participle(self) -> bool:
        if len(self.words) > 1:
            return False
        word = self.words[0]
        if word in _VERBS_AS_WELL:
            return word == "found"
        is_regular = word.endswith("ed") and word not in {"feed", "seed", "need"}
        return is_regular or word in _IRREGULAR

    @property
    def acts(self) -> bool:
        """Whether it is called for its effect alone."""
        return self.returns_nothing and not self.is_property

    @property
    def begins_with_verb(self) -> bool:
        return self.words[0] in _VERBS | _CALLBACKS


@dataclass(frozen=True, slots=True)
class Class:
    path: str
    line: int
    name: str
    methods: int

    @property
    def feature(self) -> str:
        """Return the package that a reader takes for one: `app/flags`, `sdk/src/pilothouse`."""
        parts = Path(self.path).parts
        return "/".join(parts[: 3 if parts[0] != "app" else 2][: len(parts) - 1])


@dataclass(frozen=True, slots=True)
class Module:
    path: str
    lines: int
    docstring: str | None
    functions: tuple[Function, ...]
    classes: tuple[Class, ...]


@cache
def modules(folders: tuple[str, ...] = FOLDERS) -> tuple[Module, ...]:
    """Read every module of these folders."""
    listed = subprocess.run(
        ["git", "ls-files", *folders],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return tuple(_module(path) for path in listed if path.endswith(".py") and Path(path).exists())


def _module(path: str) -> Module:
    text = Path(path).read_text()
    tree = ast.parse(text)
    nodes = [*ast.walk(tree)]
    return Module(
        path,
        text.count("\n"),
        ast.get_docstring(tree),
        tuple(
            _function(path, node)
            for node in nodes
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ),
        tuple(_class(path, node) for node in nodes if isinstance(node, ast.ClassDef)),
    )


def _function(path: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Function:
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    returns = node.returns
    return Function(
        path,
        node.lineno,
        node.name,
        (node.end_lineno or node.lineno) - node.lineno + 1,
        isinstance(returns, ast.Constant) and returns.value is None,
        any(each in {"property", "cached_property"} or "setter" in each for each in decorators),
    )


def _class(path: str, node: ast.ClassDef) -> Class:
    methods = sum(isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) for each in node.body)
    return Class(path, node.lineno, node.name, methods)


def functions(folders: tuple[str, ...] = FOLDERS) -> Iterator[Function]:
    for module in modules(folders):
        yield from (each for each in module.functions if not each.name.startswith("__"))


def classes() -> Iterator[Class]:
    for module in modules():
        yield from module.classes


def share_of_participles() -> Mapping[str, tuple[int, int]]:
    """Return by folder how many functions are named by one participle, and of how many."""
    named: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for function in functions(FOLDERS + TEST_FOLDERS):
        folder = next(each for each in FOLDERS + TEST_FOLDERS if function.path.startswith(each))
        total[folder] += 1
        named[folder] += function.is_participle
    return {folder: (named[folder], total[folder]) for folder in total}


def actions_without_verb() -> Mapping[str, str]:
    """Return where functions act whose name begins with another word, and their names."""
    return {
        f"{each.path}:{each.line}": each.name
        for each in functions()
        if each.acts and not each.begins_with_verb
    }


def same_names() -> Mapping[str, list[str]]:
    """Return the public types that share a name within a feature, with where they are."""
    places: dict[tuple[str, str], list[str]] = {}
    for each in classes():
        if not each.name.startswith("_"):
            places.setdefault((each.feature, each.name), []).append(f"{each.path}:{each.line}")
    return {
        f"{feature} {name}": where for (feature, name), where in places.items() if len(where) > 1
    }


def report() -> Iterator[str]:
    """Yield the figures, a line each."""
    for folder, (named, total) in share_of_participles().items():
        yield f"{folder}: {named} of {total} functions are one participle ({named / total:.1%})"
    for place, action in actions_without_verb().items():
        yield f"{place}: {action} acts, and its name does not begin with a verb"
    for name, where in sorted(same_names().items()):
        yield f"{name}: {', '.join(where)}"
    for module in modules():
        if module.lines > MOST_LINES:
            yield f"{module.path}: {module.lines} lines"
    for each in classes():
        if each.methods > MOST_METHODS:
            yield f"{each.path}:{each.line}: {each.name} has {each.methods} methods"
    for function in functions():
        if function.lines > LONGEST_FUNCTION:
            yield f"{function.path}:{function.line}: {function.name} has {function.lines} lines"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in report())
