"""The shapes that pictures of a set are seen in, as bars."""

from collections.abc import Sequence

from app.views.sets import count
from trainer.pictures.epochs import Row


def bars_html(rows: Sequence[Row]) -> str:
    """HTML: every shape with its pictures and batches, from the tallest to the widest."""
    most = max(row.pictures for row in rows)
    return f'<table class="shapes">{"".join(_bar(row, most) for row in rows)}</table>'


def _bar(row: Row, most: int) -> str:
    return (
        f"<tr><td>{row.bucket.width} × {row.bucket.height}</td><td>{row.pictures}</td>"
        f'<td><i style="width:{row.pictures / most:.0%}"></i></td>'
        f"<td>{count(row.batches, 'batch', 'batches')}</td></tr>"
    )
