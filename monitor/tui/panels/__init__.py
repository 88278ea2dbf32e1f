"""What the screens are made of: each a function from a view and a size to lines. Only rich is used, not Textual."""
