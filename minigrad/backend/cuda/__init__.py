"""Fused CUDA kernels on plain CuPy arrays. Each .cu file beside this one is one idea, written out to be read.

The functions have the meaning of their namesakes in `minigrad.backend.cpu`. They allocate their results and launch on the
current device and stream, refuse arrays of another device, and never wait for the GPU. Importing needs no CuPy; calling does.
"""
from .attention import attention, attention_backward
from .elementwise import (activation, activation_backward, adam_step, channel_sum, column_sum, dropout, ema_step, index_add,
                          philox_words, sgd_step)
from .images import (avg_pool2d, avg_pool2d_backward, batch_norm, batch_norm_backward, batch_norm_double_backward,
                     batch_norm_eval, col2im, conv2d, conv2d_input_grad, conv2d_weight_grad, fold_norm,
                     grid_sample, grid_sample_backward, group_norm, group_norm_backward, im2col, inverse_std, max_pool2d,
                     max_pool2d_backward, moments, move_running, norm_relu_pool, norm_relu_pool_backward)
from .matmul import matmul, matmul_kernel
from .recurrent import gru, gru_backward, lstm, lstm_backward, rnn, rnn_backward
from .rows import (cross_entropy, cross_entropy_backward, layer_norm, layer_norm_backward, rms_norm, rms_norm_backward,
                   softmax, softmax_backward)
