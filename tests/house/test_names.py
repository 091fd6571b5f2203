"""Names in the code, as `python -m tests.house.vocabulary` counts them."""

import pytest

from tests.house.allowed_names import (
    BIG_CLASSES,
    LONG_FUNCTIONS,
    LONG_MODULES,
    NO_VERBS,
    PARTICIPLES,
    SAME_NAMES,
)
from tests.house.vocabulary import (
    FOLDERS,
    LONGEST_FUNCTION,
    MOST_LINES,
    MOST_METHODS,
    TEST_FOLDERS,
    Module,
    actions_without_verb,
    classes,
    functions,
    modules,
    same_names,
    share_of_participles,
)


def test_no_function_is_named_by_a_participle_alone() -> None:
    named = {
        f"{each.path}:{each.line} {each.name}"
        for each in functions(FOLDERS + TEST_FOLDERS)
        if each.is_participle and each.words[0] not in PARTICIPLES
    }

    assert not named, "say what acts (verb and object) or what is computed (a noun)"


def test_hardly_any_function_is_a_participle() -> None:
    counted = share_of_participles().values()

    assert sum(named for named, _ in counted) <= 0.01 * sum(total for _, total in counted)


def test_what_acts_is_named_by_a_verb() -> None:
    others = {where: name for where, name in actions_without_verb().items() if name not in NO_VERBS}

    # A few pass, so that a new verb need not be added to the list of `vocabulary` at once.
    assert len(others) <= 0.01 * sum(each.acts for each in functions()), others


def test_no_two_public_types_of_a_feature_share_a_name() -> None:
    assert same_names().keys() == SAME_NAMES.keys()


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.path)
def test_a_module_begins_with_one_sentence(module: Module) -> None:
    if not module.functions and not module.classes and module.docstring is None:
        return  # a package that only holds modules, or a migration's list
    first, *_ = (module.docstring or "").split("\n\n")

    assert first.endswith((".", ":")), first
    assert first[:1].isupper() or first[:1] in "`.", first


def test_what_is_big_has_a_reason() -> None:
    long_modules = {each.path for each in modules() if each.lines > MOST_LINES}
    big_classes = {f"{each.path} {each.name}" for each in classes() if each.methods > MOST_METHODS}
    long_functions = {
        f"{each.path} {each.name}" for each in functions() if each.lines > LONGEST_FUNCTION
    }

    assert long_modules == LONG_MODULES.keys()
    assert big_classes == BIG_CLASSES.keys()
    assert long_functions == LONG_FUNCTIONS.keys()
