"""The commands of ``releq``: a module for each kind, which says what may be typed and runs it."""
