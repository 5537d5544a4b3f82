"""What embeddings cost: from pictures a second, as measured, and a price, as your provider names it."""

from midsight.errors import InputError

MILLION = 1_000_000
HOUR = 3600


def hours_per_million(images_per_second: float) -> float:
    """Hours that a million pictures take.

    Args:
        images_per_second: of the whole cluster, as `midsight embed --ray` reports it.

    Raises:
        InputError: not above 0.
    """
    if not images_per_second > 0:
        raise InputError(f"images per second must be above 0, got {images_per_second}")
    return MILLION / images_per_second / HOUR


def cost_per_million(images_per_second: float, price_per_hour: float, machines: int = 1) -> float:
    """Price of a million pictures: hours x machines x price of a machine for an hour.

    Args:
        images_per_second: of the whole cluster.
        price_per_hour: of one machine, in any currency; the result is in the same.
        machines: of that price in the cluster.

    Raises:
        InputError: a rate that is not above 0, a negative price, or no machine.
    """
    if price_per_hour < 0 or machines < 1:
        raise InputError(f"expected a price of at least 0 and at least 1 machine, got {price_per_hour} and {machines}")
    return hours_per_million(images_per_second) * machines * price_per_hour
