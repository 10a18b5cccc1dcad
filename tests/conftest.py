"""Fixtures shared by all tests. What users may want too is in `refart.testing`."""

from __future__ import annotations

pytest_plugins = ["refart.testing", "tests.postgres"]
