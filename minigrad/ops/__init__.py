"""Every operation, one family a file. `declare.py` says how one is declared; an operation is an edit of one file."""
from . import missing, numpy_protocol  # noqa: F401
from .activation import *  # noqa: F403
from .attention import *  # noqa: F403
from .columns import *  # noqa: F403
from .conv import *  # noqa: F403
from .create import *  # noqa: F403
from .ctc import *  # noqa: F403
from .declare import PUBLIC
from .elementwise import *  # noqa: F403
from .index import *  # noqa: F403
from .linalg import *  # noqa: F403
from .loss import *  # noqa: F403
from .move import *  # noqa: F403
from .normalization import *  # noqa: F403
from .pool import *  # noqa: F403
from .products import *  # noqa: F403
from .projection import *  # noqa: F403
from .recurrent import *  # noqa: F403
from .reduce import *  # noqa: F403
from .resample import *  # noqa: F403
from .shape import *  # noqa: F403

# The families import each other's operations under the same names, and helpers too. Checkers of types see all that they import.
globals().update(PUBLIC, __all__=sorted(PUBLIC))
