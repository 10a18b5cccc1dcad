"""Fixtures shared by all tests. What users may want too is in `refart.testing`."""

from __future__ import annotations

import os

from hypothesis import settings

# Before anything imports gcsfs, which reads it then: otherwise its first touch of a bucket asks by gRPC for the
# bucket's layout, and tries for a minute where the server is an emulator. Child processes inherit it.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

pytest_plugins = ["refart.testing", "tests.postgres", "tests.servers", "tests.places"]

# No test depends on speed: a loaded machine must not fail an example.
settings.register_profile("refart", deadline=None)
settings.register_profile("few", deadline=None, max_examples=10)  # for runs that look at lines, not at values
settings.load_profile("refart")
