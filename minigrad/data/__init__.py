"""Data sets and episodes, as plain NumPy arrays."""
from ..ops.missing import missing_from as _missing_from
from . import augment, views
from .augment import RandAugment, affine, random_affine, weak
from .byte_pairs import BytePairs
from .captions import CaptionedPictures, captioned, coloured_digits, load_clipart, read_captions
from .characters import Characters, with_rotations
from .cifar10 import FILES as CIFAR10_FILES
from .cifar10 import load_cifar10
from .digits import load_digits
from .emoji import load_emoji
from .episodes import Episode, EpisodeSampler
from .files import cache_dir, data_dir
from .folder import (
    FoundFiles, ImageFolder, find_pictures, load_image_folder, open_picture, read_image_folder, read_picture)
from .glyphs import load_glyphs
from .labels import Batch, SemiSupervisedLoader, balanced_subset
from .lake import LakeRun, load_lake_runs
from .mnist import FASHION_NAMES, load_fashion_mnist, load_mnist, read_idx
from .omniglot import load_omniglot
from .speech import Recordings, customary_split, load_spoken_digits, read_recordings, spoken_digits_in
from .views import ExemplarView, View, make_views
from .text import PARTS_OF_SPEECH, Texts, WordPiece, load_glosses, read_texts

__getattr__ = _missing_from(__name__)
