"""Data sets and episodes, as plain NumPy arrays."""
from ..ops.missing import missing_from as _missing_from
# X as X: who checks types, as editors do, takes X for a name that is given on.
from . import augment as augment, views as views
from .augment import RandAugment as RandAugment, affine as affine, random_affine as random_affine, weak as weak
from .byte_pairs import BytePairs as BytePairs
from .captions import (
    CaptionedPictures as CaptionedPictures, captioned as captioned, coloured_digits as coloured_digits,
    load_clipart as load_clipart, read_captions as read_captions)
from .characters import Characters as Characters, with_rotations as with_rotations
from .cifar10 import FILES as CIFAR10_FILES
from .cifar10 import load_cifar10 as load_cifar10
from .digits import load_digits as load_digits
from .emoji import load_emoji as load_emoji
from .episodes import Episode as Episode, EpisodeSampler as EpisodeSampler
from .files import cache_dir as cache_dir, data_dir as data_dir
from .folder import (
    FoundFiles as FoundFiles, ImageFolder as ImageFolder, find_pictures as find_pictures,
    load_image_folder as load_image_folder, open_picture as open_picture, read_image_folder as read_image_folder,
    read_picture as read_picture)
from .glyphs import load_glyphs as load_glyphs
from .labels import Batch as Batch, SemiSupervisedLoader as SemiSupervisedLoader, balanced_subset as balanced_subset
from .lake import LakeRun as LakeRun, load_lake_runs as load_lake_runs
from .mnist import (
    FASHION_NAMES as FASHION_NAMES, load_fashion_mnist as load_fashion_mnist, load_mnist as load_mnist, read_idx as read_idx)
from .omniglot import load_omniglot as load_omniglot
from .speech import (
    Recordings as Recordings, customary_split as customary_split, load_spoken_digits as load_spoken_digits,
    read_recordings as read_recordings, spoken_digits_in as spoken_digits_in)
from .views import ExemplarView as ExemplarView, View as View, make_views as make_views
from .text import (
    PARTS_OF_SPEECH as PARTS_OF_SPEECH, Texts as Texts, WordPiece as WordPiece, load_glosses as load_glosses,
    read_texts as read_texts)

__getattr__ = _missing_from(__name__)
