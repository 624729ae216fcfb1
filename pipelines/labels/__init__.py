"""The labels that real datasets ship: where they are, which one belongs to a picture, and how it becomes a map."""
