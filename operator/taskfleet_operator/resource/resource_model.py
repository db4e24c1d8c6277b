"""The base of every model of the resource: names in the manifest, and rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule in two forms: the API server checks `cel`; a command without an API server calls `check`.

    `message` tells the user how to mend the manifest. `field` is the path of the error, relative to the model.
    A rule about a change (`oldSelf`) has no `check`: a file has no earlier version.
    """

    cel: str
    message: str
    field: str = ""
    check: Callable[[Any], bool] | None = None


class ResourceModel(BaseModel):
    """camelCase in the manifest, snake_case in Python; an unknown field is an error.

    `rules` are written beside the fields that they check. The CRD has them as `x-kubernetes-validations`.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _obey_rules(self) -> Self:
        for rule in self.rules:
            if rule.check is not None and not rule.check(self):
                raise ValueError(rule.message)
        return self
