"""Image quality: networks that turn pictures and texts into features, and distances between sets of features."""
