"""`make torture`: what sessions promise, while everything round them fails."""
