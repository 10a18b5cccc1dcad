"""Artifacts: thin faces whose methods call `ops`.

`core` is what they are, `building` what changes a draft, `reading` what reads a version, `versions` the class itself
with its versions and lineage, and the record of a run. Nearly every method is one call, and the contract that users
read.
"""

from refart.artifact.versions import Artifact, RunRecord, find, list_versions

__all__ = ["Artifact", "RunRecord", "find", "list_versions"]
