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
        yield made


@pytest.fixture(scope="session")
def front(lab):
    """A clusterra-server in front of it, as one of its users."""
    with lab.front() as server:
        yield server


@pytest.fixture(autouse=True)
def _own_queue(request):
    """A test on the Slurm finds no job of another one, and leaves none."""
    if not request.node.get_closest_marker("slurm"):
        yield
        return
    slurm = request.getfixturevalue("lab")
    slurm.clear()
    yield
    slurm.clear()
