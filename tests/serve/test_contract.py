"""What the API says of itself holds, for made requests; `python -m benchmarks.serve_faults contract` makes 2,000."""

from benchmarks import serve_contract
from midsight.plm import PLM
from midsight.serve import ServeLimits
from tests.serve import server
from tests.serve.server import Served


def test_made_requests_get_what_the_description_says(served: Served) -> None:
    done = serve_contract.run(served.address, 40)
    assert done.failures == 0, done.told
    assert done.cases > 60


def test_made_questions_get_what_the_description_says(plm: PLM) -> None:
    with server.serving(plm, ServeLimits(timeout=0.3)) as address:
        done = serve_contract.run(address, 40)
        assert done.failures == 0, done.told
        assert done.cases > 40
