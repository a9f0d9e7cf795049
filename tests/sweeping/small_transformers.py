"""Tiny models of the architectures of ``transformers``, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fxbio.models.inputs import ExampleInputs

__all__ = ["MODELS"]

Made = tuple[nn.Module, ExampleInputs]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _tokens(*shape: int) -> Tensor:
    return torch.randint(2, 100, shape or (2, 12), generator=_generator())


def _images(size: int) -> ExampleInputs:
    pixels = torch.randn(2, 3, size, size, generator=_generator())
    return ExampleInputs((), {"pixel_values": pixels})


def _text(**more: Any) -> ExampleInputs:
    return ExampleInputs((), {"input_ids": _tokens(), **more})


def bert() -> Made:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
    )
    mask = torch.ones(2, 12, dtype=torch.int64)
    return BertForMaskedLM(config), _text(attention_mask=mask)


def gpt2() -> Made:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=100, n_positions=32, n_embd=32, n_layer=2, n_head=4)
    return GPT2LMHeadModel(config), _text(use_cache=False)


def llama() -> Made:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config), _text(use_cache=False)


def vit() -> Made:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
    )
    return ViTForImageClassification(config), _images(32)


def swin() -> Made:
    from transformers import SwinConfig, SwinForImageClassification

    config = SwinConfig(
        image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4
    )
    return SwinForImageClassification(config), _images(32)


def t5() -> Made:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=100,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )
    model = T5ForConditionalGeneration(config)
    return model, _text(decoder_input_ids=_tokens(2, 6), use_cache=False)


def detr() -> Made:
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage4"],
    )
    config = DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_queries=6,
        num_labels=5,
    )
    return DetrForObjectDetection(config), _images(64)


def wav2vec2() -> Made:
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    config = Wav2Vec2Config(
        vocab_size=30,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(16, 16, 16),
        conv_stride=(5, 2, 2),
        conv_kernel=(10, 3, 3),
        num_feat_extract_layers=3,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        mask_time_prob=0.0,
    )
    waves = torch.randn(2, 1600, generator=_generator())
    return Wav2Vec2ForCTC(config), ExampleInputs((), {"input_values": waves})


MODELS: dict[str, Callable[[], Made]] = {
    made.__name__: made for made in (bert, gpt2, llama, vit, swin, t5, detr, wav2vec2)
}
