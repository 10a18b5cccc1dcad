"""An open workspace for verbs, and a source to order about."""

from __future__ import annotations

import pytest

from refart.context import Context
from refart.workspace import Workspace
from tests.ops.support import Objects


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def context(refart_workspace: Workspace, objects: Objects) -> Context:
    """An empty embedded workspace whose references lie in `objects`."""
    return objects.serve(refart_workspace._context)
