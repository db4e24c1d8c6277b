"""The base of all reports. A figure that is not known is null, never 0. Times are UTC."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Report(BaseModel):
    """The base of all reports."""

    model_config = ConfigDict(use_attribute_docstrings=True, frozen=True, ser_json_inf_nan="null")
