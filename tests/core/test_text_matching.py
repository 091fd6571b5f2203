"""One of many texts in another: against asking for each."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.text_matching import prefix_matcher, substring_matcher, suffix_matcher
from tests.trials import trials

LETTERS = st.text(alphabet="ab\u00e9\u4e16\U0001d11e\ud800", max_size=6)
# Few are looked for one by one, and many by their order.
SETS = st.lists(LETTERS, min_size=1, max_size=20) | st.lists(LETTERS, min_size=130, max_size=150)


@settings(max_examples=trials(200))
@given(SETS, st.text(alphabet="ab\u00e9\u4e16\U0001d11e\ud800", max_size=40))
def test_many_texts_are_found_where_each_would_be(parts: list[str], text: str) -> None:
    assert substring_matcher(parts)(text) is any(part in text for part in parts)
    assert prefix_matcher(parts)(text) is any(text.startswith(part) for part in parts)
    assert suffix_matcher(parts)(text) is any(text.endswith(part) for part in parts)


def test_texts_that_are_nearly_there_are_not_found() -> None:
    parts = [f"{'a' * 80}{number}" for number in range(10_000)]

    assert not substring_matcher(parts)("a" * 4096)
    assert substring_matcher(parts)("a" * 4000 + "7!")
    assert not prefix_matcher(parts)("a" * 81 + "7")
    assert suffix_matcher(parts)("a" * 81 + "7")
