"""One file a section of the settings: what can be set in that room, its default, and what it does."""
