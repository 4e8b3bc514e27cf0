"""Alembic's entry: runs the migrations on the engine that `infra.database.migrate` hands over."""

from alembic import context
from sqlalchemy import text

from infra.database.tables import Base

engine = context.config.attributes["engine"]
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":  # a process on a busy machine may think for long between two steps
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        context.run_migrations()
    connection.commit()
