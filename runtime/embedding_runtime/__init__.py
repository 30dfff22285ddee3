"""The inference runtime: HTTP processes in front of one engine process that owns the device."""

__version__ = "0.1.0"
