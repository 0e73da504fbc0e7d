"""For `make browse`: executed notebooks under results/ can be opened and run, and are never saved over.

Running one writes to .runs/scratch (see `ghostlib.notebook.enter_repository`). What is left is that JupyterLab saves by
itself what it may write.
"""

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager


class ResultsStay(AsyncLargeFileManager):
    """Shows what lies under results/ as read-only, which JupyterLab then does not save."""

    def is_writable(self, path: str) -> bool:
        return path.strip("/").split("/")[0] != "results" and super().is_writable(path)


c = get_config()  # noqa: F821 - Jupyter gives it to its configuration
c.ServerApp.contents_manager_class = ResultsStay
