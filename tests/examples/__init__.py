"""The examples, held against what would read them: schemas, parsers, real servers."""
