"""The faults, a module a group. Each module of this package is loaded, and registers its own with ``fault``."""
