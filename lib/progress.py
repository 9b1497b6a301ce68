"""Progress bars that leave nothing behind, in a terminal or a saved notebook; notes told once."""

import sys
from functools import cache

from tqdm.auto import tqdm


def in_kernel() -> bool:
    """Whether this process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    return bool(ipython) and hasattr(ipython.get_ipython(), "kernel")


def progress(iterable=None, **kwargs):
    """A tqdm bar, for an iterable or with total=; call ``close(bar)`` where it is not iterated.

    kwargs: tqdm's. In a notebook the bar is a widget; tqdm alone would leave its text in the file.
    """
    if in_kernel():
        return _bar_in_notebook()(iterable, **kwargs)
    quiet = not sys.stderr.isatty()
    return tqdm(iterable, leave=False, mininterval=15 if quiet else 0.2, **{"delay": 2} | kwargs)


def close(bar) -> None:
    """Close a bar wherever it stands; a notebook would keep an unfinished one, in red."""
    bar.total = bar.n
    bar.close()


def _bar_in_notebook():
    from IPython.display import display
    from tqdm.notebook import tqdm_notebook

    class Bar(tqdm_notebook):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, leave=False, display=False, mininterval=0.2, **kwargs)
            self.handle = display(self.container, display_id=True)

        def close(self):
            super().close()
            if self.handle:
                self.handle.update({"text/html": "", "text/plain": ""}, raw=True)
                self.handle = None

    return Bar


@cache
def tell_once(message: str) -> None:
    """Print message to stderr, once a process."""
    print(message, file=sys.stderr)
