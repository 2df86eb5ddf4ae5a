"""The tabs of the page, in their order: a new one is a file here and a line below."""

from collections.abc import Callable

from app.tabs import dataset, library, preview, queue, settings, train
from app.views.page import Page

TABS: tuple[tuple[str, str, Callable[[Page], None]], ...] = (
    ("Dataset", dataset.ID, dataset.build),
    ("Train", train.ID, train.build),
    ("Queue", queue.ID, queue.build),
    ("Preview", preview.ID, preview.build),
    ("Library", library.ID, library.build),
    ("Settings", settings.ID, settings.build),
)
