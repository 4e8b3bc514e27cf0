"""The database: `engine.open_database` in, transactions out. Tables of the registry are in `tables`."""
