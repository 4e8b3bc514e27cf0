"""What the rooms share: settings in, adapters to log, database and artifacts out. Start at `contracts/`."""
