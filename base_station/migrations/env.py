"""Alembic's entry: it runs in the transaction that `base_station.database` has begun."""

from alembic import context

from base_station.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
