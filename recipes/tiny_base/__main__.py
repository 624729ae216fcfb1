"""``python -m recipes.tiny_base FOLDER``."""

from .make import main

if __name__ == "__main__":
    main()
