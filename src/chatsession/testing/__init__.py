"""Conformance suites for storages and integrations, and a fixture for the tests of your own bot."""

try:
    import pytest
except ImportError as error:
    raise ImportError(
        "chatsession.testing needs pytest: pip install 'chatsession[testing]'", name=error.name
    ) from error

# So that their failures tell the values.
pytest.register_assert_rewrite(f"{__name__}.conformance", f"{__name__}.integration_suite")

del pytest
