"""Does anything grow? A steady load on every storage for an hour, with all that could leak written down."""
