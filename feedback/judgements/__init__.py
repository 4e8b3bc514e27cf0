"""What votes say about which answers, and whether both people agreed to training: pure functions, no database."""
