"""The real Slurm, one for tests of any folder."""

import pytest

from tests.slurm.chroot import why_not
from tests.slurm.conf import Settings
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


@pytest.fixture(scope="module")
def slurm_settings():
    """How the Slurm is set up for a test; one that needs it otherwise has a fixture of this name."""
    return Settings()


@pytest.fixture(autouse=True)
def _own_slurm(request, slurm_settings):
    """A test on the Slurm finds it set up for it, and without a job of another one."""
    if not request.node.get_closest_marker("slurm"):
        yield
        return
    slurm = request.getfixturevalue("lab").use(slurm_settings)
    yield
    slurm.clear()
