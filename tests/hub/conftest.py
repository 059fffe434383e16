"""A Hub on loopback, and two computers that use it: one has hf_seqmodels, the other doesn't."""

from collections.abc import Iterator

import pytest

from tests.hub.client import Client
from tests.hub.server import HubServer


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """The server. Tests share it, each with repositories of its own."""
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        yield server


@pytest.fixture(scope="session")
def client(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A computer with hf_seqmodels."""
    with Client(hub.url, tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="session")
def bare_client(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A computer on which `import hf_seqmodels` fails, with transformers alone."""
    with Client(hub.url, tmp_path_factory.mktemp("bare_home"), with_package=False) as running:
        yield running
