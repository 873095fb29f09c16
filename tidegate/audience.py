"""Who a feature is meant for, as people write it."""

import re
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, model_validator

from tidegate.quantities import Share, format_share
from tidegate.spec import Name, Spec

_VERSION: Final = re.compile(r"\d{1,9}(\.\d{1,9}){0,3}(-[0-9A-Za-z.-]+)?")


def _is_version(text: str) -> str:
    if not _VERSION.fullmatch(text):
        raise ValueError('expected a version. Write it like "2.10.0"')
    return text


Version = Annotated[str, AfterValidator(_is_version)]


class VersionRange(Spec):
    """Versions of an app, compared by their numbers."""

    at_least: Version | None = Field(default=None, description="This one or a later one.")
    below: Version | None = Field(default=None, description="An earlier one.")


class AttributeTest(Spec):
    """Typed comparisons of one attribute, all of which must hold; a missing one never passes."""

    name: str = Field(min_length=1, description="As the caller names it in the context.")
    any_of: tuple[StrictBool | StrictInt | StrictStr, ...] = Field(
        default=(), description="One of these; text, whole numbers, true and false are told apart."
    )
    none_of: tuple[StrictBool | StrictInt | StrictStr, ...] = Field(
        default=(), description="Present, and none of these."
    )
    at_least: float | None = Field(
        default=None, allow_inf_nan=False, description="This number or more."
    )
    below: float | None = Field(
        default=None, allow_inf_nan=False, description="Less than this number."
    )

    @model_validator(mode="after")
    def _compares(self) -> Self:
        if not (self.any_of or self.none_of) and self.at_least is None and self.below is None:
            raise ValueError(
                "expected a comparison. Write anyOf, noneOf, atLeast or below; all must hold"
            )
        return self


class AudienceSpec(Spec):
    """Who a feature is meant for; all that is written must hold."""

    regions: tuple[str, ...] = Field(default=(), description="The user's region is one of these.")
    cohorts: tuple[str, ...] = Field(default=(), description="The user is in one of these.")
    app_version: VersionRange | None = Field(default=None, description="Of the user's app.")
    attributes: tuple[AttributeTest, ...] = Field(default=(), description="Comparisons of others.")


class Segment(Spec):
    """A part of a tier's users, by where they ask from and who they are; by default all of them."""

    surfaces: tuple[Name, ...] = Field(default=(), description="Only on these surfaces.")
    regions: tuple[str, ...] = Field(default=(), description="Only users of these regions.")
    cohorts: tuple[str, ...] = Field(default=(), description="Only users in one of these.")

    @property
    def is_everybody(self) -> bool:
        """Whether it is all of the tier, everywhere."""
        return not (self.surfaces or self.regions or self.cohorts)

    def __str__(self) -> str:
        """Say who it is, such as `surfaces api, regions eu`; empty for everybody."""
        named = (("surfaces", self.surfaces), ("regions", self.regions), ("cohorts", self.cohorts))
        return ", ".join(f"{what} {' and '.join(values)}" for what, values in named if values)


class LayerSlice(Spec):
    """A feature's part of a layer; parts of one layer exclude one another."""

    name: Name
    start: Share = Field(default=0.0, description="Where the part begins, as a share of users.")
    end: Share = Field(description="Where it ends.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end <= self.start:
            raise ValueError(
                f"expected an end above the start, which is {format_share(self.start)}. "
                "Write the larger share as end"
            )
        return self
