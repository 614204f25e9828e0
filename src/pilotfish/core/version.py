"""The version of Pilotfish, in one place: the package metadata, the command line and artefacts read it here."""

__version__ = "0.1.0"
