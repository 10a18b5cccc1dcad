"""Property tests here write files, and how long an example takes says nothing about a manifest."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("no-deadline", parent=settings.default, deadline=None)
settings.load_profile("no-deadline")
