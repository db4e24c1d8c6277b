"""Providers of dependencies that others replace for a while, as tests do."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from taskfleet.tasks.depends import HintsOf

if TYPE_CHECKING:
    from taskfleet.tasks.dependency_plan import DependencyPlan


class ProviderOverrides:
    """Providers that replace others for a while, and the plans with these replacements."""

    def __init__(self) -> None:
        self._replacements: dict[Any, Callable[..., Any]] = {}
        self._plans: dict[DependencyPlan, DependencyPlan] = {}

    def plan_of(self, plan: DependencyPlan) -> DependencyPlan:
        """The plan with the current replacements."""
        return self._plans.get(plan, plan)

    @contextmanager
    def replaced(
        self,
        provider: Callable[..., Any],
        replacement: Callable[..., Any],
        plans: Iterable[DependencyPlan],
        hints_of: HintsOf,
    ) -> Generator[None]:
        """Use `replacement` in place of `provider` in all `plans`. Nested uses add up."""
        from taskfleet.tasks.dependency_plan import plan  # only here: most applications inject nothing

        before = self._replacements, self._plans
        replacements = self._replacements | {provider: replacement}
        self._plans = {
            old: plan(
                old.task,
                old.markers,
                hints_of,
                threaded=old.threaded,
                has_context=old.has_context,
                overrides=replacements,
            )
            for old in plans
        }
        self._replacements = replacements
        try:
            yield
        finally:
            self._replacements, self._plans = before
