"""Data sets and episodes, as plain NumPy arrays."""
from .augment import affine, random_affine
from .characters import Characters, with_rotations
from .episodes import Episode, EpisodeSampler
from .files import data_dir
from .glyphs import load_glyphs
from .mnist import load_mnist, read_idx
from .omniglot import load_omniglot
