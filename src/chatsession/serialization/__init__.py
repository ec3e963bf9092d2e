"""From a value to stored bytes, and back."""
