"""What is wrong with the content of a file, in one sentence."""

from typing import Literal

import pytest
from pydantic import Field, field_validator

from ocp_physmol.errors import UserError
from ocp_physmol.validation import Section, validate


class Part(Section):
    width: int = Field(ge=1, description="an even number")
    rate: float = Field(0.5, gt=0, le=1)
    kind: Literal["a", "b"] = "a"
    name: str | None = Field(None, examples=["physmol"])

    @field_validator("width")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("it must be even")
        return value


class Shape(Section):
    sides: int


class Whole(Section):
    part: Part = Field(examples=["{width: 8}"])
    parts: list[Part] = Field([])
    by_name: dict[str, Part] = Field({})
    either: str | Part = "x"
    shape: Shape | None = None


PART = {"width": 2}
SENTENCES = [
    ({}, "part is missing; for example {width: 8}"),
    ({"part": 5}, "part: 5 is not possible; it must be a mapping of keys to values"),
    ({"prat": PART}, "prat is an unknown key; did you mean 'part'?"),
    ({"part": {}}, "part.width is missing; an even number"),
    ({"part": {"width": 0}}, "part.width: 0 is not possible; it must be greater than or equal to "
     "1"),
    ({"part": {"width": "2"}}, "part.width: '2' is not possible; it must be a valid integer"),
    ({"part": {"width": 3}}, "part.width: 3 is not possible; it must be even"),
    ({"part": {"width": 2, "rate": 2}}, "part.rate: 2 is not possible; it must be less than or "
     "equal to 1"),
    ({"part": {"width": 2, "rate": float("nan")}}, "part.rate: nan is not possible"),
    ({"part": {"width": 2, "rate": "1e-3"}}, "YAML takes this for text"),
    ({"part": {"width": 2, "kind": "c"}}, "part.kind: 'c' is not possible; it must be 'a' or 'b'"),
    ({"part": {"width": 2, "nme": "c"}}, "part.nme is an unknown key; did you mean 'name'?"),
    ({"part": {"width": 2, "nme": "c"}, "parts": 3}, "part.nme is an unknown key"),
    ({"part": PART, "shape": {}}, "shape.sides is missing; it must be int"),
    ({"part": {"width": 2, "name": 1}}, "part.name: 1 is not possible; it must be a valid string"),
    ({"part": PART, "parts": [PART, {"width": 0}]}, "parts[1].width: 0 is not possible"),
    ({"part": PART, "parts": PART}, "parts: {'width': 2} is not possible; it must be a valid list"),
    ({"part": PART, "by_name": {"x": {"width": 0}}}, "by_name.x.width: 0 is not possible"),
    ({"part": PART, "either": {"width": 0}}, "either.width: 0 is not possible"),
    ({"part": PART, "either": 3}, "either: 3 is not possible; it must be a valid string or a "
     "mapping of keys to values"),
]  # fmt: skip


@pytest.mark.parametrize("content, sentence", SENTENCES)
def test_every_problem_has_its_path_its_value_and_its_cure(content, sentence):
    with pytest.raises(UserError) as error:
        validate(Whole, content)
    assert sentence in str(error.value)


def test_a_section_is_named_with_its_place_in_the_file():
    with pytest.raises(UserError, match=r"runs\.mine\.width: 0 is not possible"):
        validate(Part, {"width": 0}, "runs.mine")


def test_what_is_right_comes_back():
    assert validate(Whole, {"part": PART}).part.width == 2
