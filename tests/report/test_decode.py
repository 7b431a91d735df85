from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifarzoo.report.decode import decode


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int
    name: Literal["a", "b"] = "a"


@dataclass(frozen=True, kw_only=True)
class Outer:
    share: float
    pair: tuple[float, float]
    rows: tuple[tuple[int, ...], ...] | None
    inner: Inner | None
    words: Mapping[str, str]
    flag: bool


GOOD: dict[str, Any] = {
    "share": 0.5,
    "pair": [0.25, 1],
    "rows": [[1, 2], []],
    "inner": {"size": 3},
    "words": {"torch": "2"},
    "flag": True,
}


def test_missing_default_and_whole_numbers_are_filled_in() -> None:
    found = decode(Outer, GOOD)
    assert found.inner == Inner(size=3, name="a")
    assert found.rows == ((1, 2), ())
    assert [type(value) for value in found.pair] == [float, float]


@given(
    st.builds(
        Outer,
        share=st.floats(allow_nan=False, allow_infinity=False),
        pair=st.tuples(st.floats(0, 1), st.floats(0, 1)),
        rows=st.none() | st.lists(st.lists(st.integers()).map(tuple)).map(tuple),
        inner=st.none() | st.builds(Inner, size=st.integers(), name=st.sampled_from(["a", "b"])),
        words=st.dictionaries(st.text(), st.text()),
        flag=st.booleans(),
    )
)
def test_what_was_written_is_what_is_read(value: Outer) -> None:
    assert decode(Outer, json.loads(json.dumps(asdict(value)))) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": "high"}, "share is 'high'; needed: float"),
        ({"share": None}, "share is None"),
        ({"share": True}, "share is True; needed: float"),
        ({"flag": 1}, "flag is 1; needed: bool"),
        ({"pair": [1.0]}, "pair has 1 values; needed are 2"),
        ({"pair": "ab"}, "pair is 'ab'; needed is a list"),
        ({"rows": [[1, 2.5]]}, r"rows\[0\]\[1\] is 2.5; needed: int"),
        ({"inner": {"size": 3, "name": "c"}}, "inner.name is 'c'; needed: 'a', 'b'"),
        ({"inner": {}}, "inner.size is missing"),
        ({"inner": 7}, "inner is 7; needed is an object"),
        ({"words": {"torch": 2}}, "words.torch is 2; needed: str"),
        ({"words": []}, r"words is \[\]; needed is an object"),
        ({"colour": "red"}, "Outer has unknown fields: colour"),
        ({"share": "x" * 60}, r"share is 'x+\.\.\.; needed"),
    ],
)
def test_wrong_value_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(Outer, GOOD | change)


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Outer is \[1\]; needed is an object"):
        decode(Outer, [1])
