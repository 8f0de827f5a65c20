"""Models as users meet them: thin AnnData faces over a module, the loop and the analysis functions."""

from vivace.models.table import *  # noqa: F403 - the one list of the models stands there
