"""The version of Pilotfish, in one place: the package metadata, the command line and artefacts read it here.

A file of its own, because the build reads it without importing the package.
"""

__version__ = "0.1.0"
