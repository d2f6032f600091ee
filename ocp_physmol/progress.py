"""Long loops, in batches and with a progress bar."""

from collections.abc import Iterator, Sequence

from tqdm import tqdm


def chunks(
    items: Sequence, size: int, title: str | None = None, unit: str = "molecules"
) -> Iterator[list]:
    """Lists of `size` items, in their order; a progress bar over all items, if it has a title."""
    hidden = title is None
    with tqdm(total=len(items), desc=title, unit=f" {unit}", mininterval=1, disable=hidden) as bar:
        for first in range(0, len(items), size):
            yield [items[i] for i in range(first, min(first + size, len(items)))]
            bar.update(min(size, len(items) - first))
