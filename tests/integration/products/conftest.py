"""A database server for task managers."""

from tests.integration.sinks.conftest import postgresql_url

__all__ = ["postgresql_url"]
