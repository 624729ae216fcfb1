"""Results side by side: a page of measures and pictures, and a study in which people rank the pictures blindly."""
