"""Pictures: one decoder for every room, colour, geometry, and how they are stored."""
