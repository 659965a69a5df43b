"""What a comparison of two interpreters found, for people and for CI."""
