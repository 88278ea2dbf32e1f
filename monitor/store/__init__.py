"""Where samples stay: an hour in memory, selected by label matchers."""
