"""A local page on which one looks around in features of one or two pictures: one file, no network, no server."""

from midsight.tasks.explore.page import explore_page

__all__ = ["explore_page"]
