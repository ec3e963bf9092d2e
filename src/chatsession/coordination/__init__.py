"""All traffic with one storage: who is next, the lock, what travels together."""
