"""States of conversations, kept as records: what the frameworks' storages of states share."""
