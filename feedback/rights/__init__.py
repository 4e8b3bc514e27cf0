"""What a person may ask for: everything of theirs as JSON, and that it be gone from every file."""
