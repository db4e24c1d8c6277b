"""How the properties of this tier are checked on a machine that is busy."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A machine that does something else for a second makes one example slow, or the drawing of one. The properties say
# nothing of time, so neither is an error. What takes for ever meets the time limit of a test.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
