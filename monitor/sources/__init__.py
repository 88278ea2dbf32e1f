"""Where readings come from. A source knows how to read one thing and nothing about who wants it."""
