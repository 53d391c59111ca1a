"""The real Slurm, one for tests of any folder."""

import pytest

from tests.slurm.chroot import why_not
from tests.slurm.lab import Lab


@pytest.fixture(scope="session")
def lab():
    """The Slurm; it is taken down at the end unless it was up before."""
    if why := why_not():
        pytest.skip(why)
    with Lab() as made:
        made.clear()
        yield made


@pytest.fixture(scope="session")
def front(lab):
    """A clusterra-server in front of it, as one of its users."""
    with lab.front() as server:
        yield server


@pytest.fixture(autouse=True)
def _own_queue(request):
    """A test on the Slurm leaves no job for the next one to find."""
    slurm = request.getfixturevalue("lab") if request.node.get_closest_marker("slurm") else None
    yield
    if slurm:
        slurm.clear()
