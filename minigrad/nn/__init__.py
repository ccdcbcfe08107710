"""Modules: layers with parameters, put together into networks."""
from ..ops.missing import missing_from as _missing_from
from . import functional, init
from .layers import (
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveMaxPool1d, AdaptiveMaxPool2d, AvgPool1d, AvgPool2d, BatchNorm1d,
    BatchNorm2d, Bilinear, CELU, CircularPad1d, CircularPad2d, ConstantPad1d, ConstantPad2d, Conv1d, Conv2d,
    ConvTranspose1d, ConvTranspose2d, CosineSimilarity, DropPath, Dropout, Dropout2d, ELU, Embedding, EmbeddingBag,
    Flatten, Fold, GELU, GLU, GroupNorm, Hardshrink, Hardsigmoid, Hardswish, Hardtanh, Identity, InstanceNorm1d,
    InstanceNorm2d, LayerNorm, LeakyReLU, Linear, LogSigmoid, LogSoftmax, MaxPool1d, MaxPool2d, Mish, PReLU,
    PairwiseDistance, PixelShuffle, PixelUnshuffle, RMSNorm, ReLU, ReLU6, ReflectionPad1d, ReflectionPad2d,
    ReplicationPad1d, ReplicationPad2d, SELU, SiLU, Sigmoid, Softmax, Softplus, Softshrink, Softsign, Tanh, Threshold,
    Unflatten, Unfold, Upsample, WeightNorm, ZeroPad1d, ZeroPad2d)
from .losses import (
    BCELoss, BCEWithLogitsLoss, CTCLoss, CosineEmbeddingLoss, CrossEntropyLoss, GaussianNLLLoss, HingeEmbeddingLoss,
    HuberLoss, KLDivLoss, L1Loss, MSELoss, MarginRankingLoss, NLLLoss, PoissonNLLLoss, SmoothL1Loss, TripletMarginLoss)
from .module import Module, ModuleDict, ModuleList, Parameter, ParameterDict, ParameterList, Sequential, functional_call
from .models import (
    BERT, CLIPText, Conv4, ConvBlock, ConvLarge, EfficientNetLite, Encoder, MAE, Preprocessing, ResNet, VisionTransformer,
    WideResNet, efficientnet_lite, load_clip, load_encoder, load_published, load_text_encoder, published_state,
    resize_positions, resnet18, resnet50)
from .recurrent import GRU, GRUCell, LSTM, LSTMCell, RNN, RNNCell
from .transformer import Attention, Mlp, MultiheadAttention, TransformerBlock, TransformerEncoder, TransformerEncoderLayer

__getattr__ = _missing_from(__name__)
