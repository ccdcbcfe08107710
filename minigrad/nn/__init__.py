"""Modules: layers with parameters, put together into networks."""
from ..ops.missing import missing_from as _missing_from
# X as X: who checks types, as editors do, takes X for a name that is given on.
from . import functional as functional, init as init
from .layers import (
    AdaptiveAvgPool1d as AdaptiveAvgPool1d, AdaptiveAvgPool2d as AdaptiveAvgPool2d, AdaptiveMaxPool1d as AdaptiveMaxPool1d,
    AdaptiveMaxPool2d as AdaptiveMaxPool2d, AvgPool1d as AvgPool1d, AvgPool2d as AvgPool2d, BatchNorm1d as BatchNorm1d,
    BatchNorm2d as BatchNorm2d, Bilinear as Bilinear, CELU as CELU, CircularPad1d as CircularPad1d,
    CircularPad2d as CircularPad2d, ConstantPad1d as ConstantPad1d, ConstantPad2d as ConstantPad2d, Conv1d as Conv1d,
    Conv2d as Conv2d, ConvTranspose1d as ConvTranspose1d, ConvTranspose2d as ConvTranspose2d,
    CosineSimilarity as CosineSimilarity, DropPath as DropPath, Dropout as Dropout, Dropout2d as Dropout2d, ELU as ELU,
    Embedding as Embedding, EmbeddingBag as EmbeddingBag, Flatten as Flatten, Fold as Fold, GELU as GELU, GLU as GLU,
    GroupNorm as GroupNorm, Hardshrink as Hardshrink, Hardsigmoid as Hardsigmoid, Hardswish as Hardswish, Hardtanh as Hardtanh,
    Identity as Identity, InstanceNorm1d as InstanceNorm1d, InstanceNorm2d as InstanceNorm2d, LayerNorm as LayerNorm,
    LeakyReLU as LeakyReLU, Linear as Linear, LogSigmoid as LogSigmoid, LogSoftmax as LogSoftmax, MaxPool1d as MaxPool1d,
    MaxPool2d as MaxPool2d, Mish as Mish, PReLU as PReLU, PairwiseDistance as PairwiseDistance, PixelShuffle as PixelShuffle,
    PixelUnshuffle as PixelUnshuffle, RMSNorm as RMSNorm, ReLU as ReLU, ReLU6 as ReLU6, ReflectionPad1d as ReflectionPad1d,
    ReflectionPad2d as ReflectionPad2d, ReplicationPad1d as ReplicationPad1d, ReplicationPad2d as ReplicationPad2d,
    SELU as SELU, SiLU as SiLU, Sigmoid as Sigmoid, Softmax as Softmax, Softplus as Softplus, Softshrink as Softshrink,
    Softsign as Softsign, Tanh as Tanh, Threshold as Threshold, Unflatten as Unflatten, Unfold as Unfold, Upsample as Upsample,
    WeightNorm as WeightNorm, ZeroPad1d as ZeroPad1d, ZeroPad2d as ZeroPad2d)
from .losses import (
    BCELoss as BCELoss, BCEWithLogitsLoss as BCEWithLogitsLoss, CTCLoss as CTCLoss, CosineEmbeddingLoss as CosineEmbeddingLoss,
    CrossEntropyLoss as CrossEntropyLoss, GaussianNLLLoss as GaussianNLLLoss, HingeEmbeddingLoss as HingeEmbeddingLoss,
    HuberLoss as HuberLoss, KLDivLoss as KLDivLoss, L1Loss as L1Loss, MSELoss as MSELoss,
    MarginRankingLoss as MarginRankingLoss, NLLLoss as NLLLoss, PoissonNLLLoss as PoissonNLLLoss, SmoothL1Loss as SmoothL1Loss,
    TripletMarginLoss as TripletMarginLoss)
from .module import (
    Module as Module, ModuleDict as ModuleDict, ModuleList as ModuleList, Parameter as Parameter,
    ParameterDict as ParameterDict, ParameterList as ParameterList, Sequential as Sequential,
    functional_call as functional_call)
from .models import (
    BERT as BERT, CLIPText as CLIPText, Conv4 as Conv4, ConvBlock as ConvBlock, ConvLarge as ConvLarge,
    EfficientNetLite as EfficientNetLite, Encoder as Encoder, MAE as MAE, Preprocessing as Preprocessing, ResNet as ResNet,
    VisionTransformer as VisionTransformer, WideResNet as WideResNet, efficientnet_lite as efficientnet_lite,
    load_clip as load_clip, load_encoder as load_encoder, load_published as load_published,
    load_text_encoder as load_text_encoder, published_state as published_state, resize_positions as resize_positions,
    resnet18 as resnet18, resnet50 as resnet50)
from .recurrent import GRU as GRU, GRUCell as GRUCell, LSTM as LSTM, LSTMCell as LSTMCell, RNN as RNN, RNNCell as RNNCell
from .transformer import (
    Attention as Attention, Mlp as Mlp, MultiheadAttention as MultiheadAttention, TransformerBlock as TransformerBlock,
    TransformerEncoder as TransformerEncoder, TransformerEncoderLayer as TransformerEncoderLayer)

__getattr__ = _missing_from(__name__)
