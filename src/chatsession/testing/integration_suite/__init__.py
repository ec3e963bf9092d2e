"""The parts of the integration suite; `chatsession.testing.integrations` puts them together."""
