from __future__ import annotations

import pytest

from cifarzoo.report.task1 import Answer, Matrix, answers, shift_changes


@pytest.fixture(scope="module")
def found() -> tuple[Answer, ...]:
    return answers()


def test_convolutions_are_exact(found: tuple[Answer, ...]) -> None:
    zero, reflected = (answer for answer in found if answer.part == "1a")
    expected: Matrix = ((-2, 1, -11, 2, 13), (-10, 4, -8, -2, 18), (-14, 1, 5, -6, 9))
    assert zero.computed == expected
    mirrored: Matrix = ((0, 4, -16, 2, 0), (0, 4, -8, -2, 0), (0, 4, 0, -6, 0))
    assert reflected.computed == mirrored
    assert reflected.agrees is None


def test_only_the_misprint_differs_and_the_note_says_so(found: tuple[Answer, ...]) -> None:
    assert [answer.part for answer in found if answer.agrees is False] == ["1a"]
    assert [answer.note for answer in found if answer.note] == [
        "The report prints −1 as the third value of the first row; the arithmetic, and the "
        "course's published solution, give −11."
    ]


@pytest.mark.parametrize(
    ("part", "computed"),
    [
        ("1b", "max pooling"),
        ("1c", "2"),
        ("1d", "9×9"),
        ("1e", "252×252"),
        ("1f", "250×250"),
        ("1g", "2,432 + 51,264 + 204,928 + 131,136 + 650 = 390,410"),
    ],
)
def test_other_answers(found: tuple[Answer, ...], part: str, computed: str) -> None:
    assert [answer.computed for answer in found if answer.part == part] == [computed]


def test_each_layer_begins_where_the_one_before_ended() -> None:
    changes = shift_changes()
    assert [change.before for change in changes[1:]] == [change.after for change in changes[:-1]]
    pooling = changes[-1]
    assert pooling.after / pooling.before < 0.9
    assert all(change.after / change.before > 0.9 for change in changes[:-1])
