"""Arguments of the examples that the command line gives by their place, and what `--help` calls them."""
from typing import Annotated

import tyro

Pictures = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PICTURES ...")]
RunPath = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
Folder = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
