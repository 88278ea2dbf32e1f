"""What asks a server for tokens, to see that it gives them."""
