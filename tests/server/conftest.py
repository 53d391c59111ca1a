"""What the tests of the server share."""

import random

import pytest


@pytest.fixture
def word():
    """How long this test's processes sleep, which no other test's do."""
    return f"600.{random.randrange(10**12)}"
