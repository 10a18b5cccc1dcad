"""Fixtures shared by all tests. What users may want too is in `refart.testing`."""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = ["refart.testing", "tests.postgres"]

# No test depends on speed: a loaded machine must not fail an example.
settings.register_profile("refart", deadline=None)
settings.load_profile("refart")
