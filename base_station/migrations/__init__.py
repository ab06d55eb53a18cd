"""How a database of an earlier station becomes one of today: Alembic, inside one transaction."""

HEAD = "0013"
"""The newest revision in `versions`; a database that has it is used without loading Alembic."""
