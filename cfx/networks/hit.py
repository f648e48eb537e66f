"""HiT, the Hindered Transformer: a classifier whose logit is a sum over patches (Jeanneret 2024; arXiv:2502.17196).

Patches never look at each other, and the class token is only ever added to, by attention. So its final value is a sum of one
vector a patch and layer, and every logit is, exactly, a sum of one number a patch (plus the head's bias).
Weights carry the names of the released checkpoints, which are torchvision's names for a ViT.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import accumulate
from types import MappingProxyType
from typing import NamedTuple, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, linear
from torchvision.models.vision_transformer import MLPBlock
from torchvision.ops import StochasticDepth

from cfx.errors import UserError
from cfx.types import Config

MOST_LAYERS = 1000


class HiTShape(Config):
    """The size of a HiT; the defaults are HiT-S without pooling."""

    size: int = Field(224, ge=1, le=2**14, description="side of the image, pixels")
    patch: int = Field(16, ge=1, le=2**14, description="side of a patch, pixels")
    width: int = Field(384, ge=1, le=2**16, description="numbers in a token")
    heads: int = Field(6, ge=1, description="attention heads")
    blocks: tuple[int, ...] = Field(
        (12,), min_length=1, max_length=10, description="layers of each block; 2 x 2 average pooling between blocks"
    )

    @model_validator(mode="after")
    def _divides(self) -> HiTShape:
        cell = self.patch * 2 ** (len(self.blocks) - 1)
        if self.size % cell:
            raise UserError(f"size {self.size} is not a multiple of {cell}, the patch after {len(self.blocks) - 1} poolings")
        if self.width % self.heads:
            raise UserError(f"width {self.width} cannot be shared by {self.heads} heads")
        if min(self.blocks) < 1 or sum(self.blocks) > MOST_LAYERS:
            raise UserError(f"blocks {self.blocks}: every block needs a layer, and all together have at most {MOST_LAYERS:,}")
        return self

    @property
    def side(self) -> int:
        """Patches along one side of the image."""
        return self.size // self.patch


PRESETS: Mapping[str, HiTShape] = MappingProxyType(
    {
        "hit-s-no-pool": HiTShape(),
        "hit-b-no-pool": HiTShape(width=768, heads=12),
        "hit-s": HiTShape(patch=8, blocks=(4, 4, 4)),
        "hit-b": HiTShape(patch=8, width=768, heads=12, blocks=(4, 4, 4)),
        "portraits": HiTShape(size=64, patch=8, width=64, heads=4, blocks=(4,)),
    }
)


DEAD = ("ln_2.weight", "ln_2.bias", "mlp.0.weight", "mlp.0.bias", "mlp.3.weight", "mlp.3.bias")


class Attended(NamedTuple):
    """What one layer did to the class token."""

    cls: Tensor  # (B, D), the class token after it
    update: Tensor  # (B, D), what the layer added
    weights: Tensor  # (B, H, N), how much each head looked at each token
    tokens: Tensor  # (B, N, D), the tokens it looked at, normalised
    attention: HinderedAttention


class Contributions(NamedTuple):
    """Logits decomposed. Over patches, and over layers, the parts and the head's bias add up to the logits."""

    logits: Tensor  # (B, K)
    patches: Tensor  # (B, K, h, w), on the finest grid of patches
    layers: Tensor  # (B, 1 + L, K); first the initial class token, then every layer


class HinderedAttention(nn.Module):
    """Multi-head attention of one query, the class token, to N patches. Weights are named as in torch's MultiheadAttention."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, cls: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Class token (B, D) and tokens (B, N, D) to the update (B, D) and the attention (B, H, N).

        There is one query, so the key and value matrices act on it and on the attended mean instead of on every token:
        q . (W_k x_n) = (W_k^T q) . x_n and sum_n a_n W_v x_n = W_v sum_n a_n x_n. The same numbers for 2 N D H multiplications
        instead of 2 N D^2. The key's bias adds the same to every score of a head, which softmax ignores.
        """
        to_query, to_key, to_value = self._per_head()
        query = torch.einsum("bd,hkd->bhk", cls, to_query) + self._bias(0)
        scores = torch.einsum("bhk,hkd->bhd", query / math.sqrt(query.shape[-1]), to_key) @ tokens.transpose(1, 2)
        weights = self.dropout(scores.softmax(-1))
        seen = torch.einsum("bhd,hkd->bhk", weights @ tokens, to_value) + weights.sum(-1, keepdim=True) * self._bias(2)
        return self.out_proj(seen.flatten(1)), weights

    def per_token(self, weights: Tensor, tokens: Tensor) -> Tensor:
        """The update again, one part a token, (B, N, D): sum_h a_n^h W_o^h (W_v^h x_n + b_v^h) + b_o / N (thesis, eq. 6.5)."""
        width = tokens.shape[-1]
        values = linear(tokens, self.in_proj_weight[2 * width :], self.in_proj_bias[2 * width :])
        weighed = weights.transpose(1, 2)[..., None] * values.unflatten(-1, (self.heads, -1))
        return weighed.flatten(2) @ self.out_proj.weight.T + self.out_proj.bias / tokens.shape[1]

    def _per_head(self) -> Tensor:
        """The matrices of query, key and value, (3, H, D / H, D)."""
        return self.in_proj_weight.unflatten(0, (3, self.heads, -1))

    def _bias(self, which: int) -> Tensor:
        return self.in_proj_bias.unflatten(0, (3, self.heads, -1))[which]


class HinderedLayer(nn.Module):
    """Attention adds to the class token, an MLP works on each patch alone (thesis, eq. 6.7). The last layer has no MLP."""

    def __init__(self, shape: HiTShape, attention_dropout: float, drop_path: float, last: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(shape.width, eps=1e-6)  # of patches and class token alike
        self.self_attention = HinderedAttention(shape.width, shape.heads, attention_dropout)
        self.drop_path = StochasticDepth(drop_path, "row")
        self.ln_2 = None if last else nn.LayerNorm(shape.width, eps=1e-6)
        self.mlp = None if last else MLPBlock(shape.width, 4 * shape.width, dropout=0.0)
        if last:
            self.register_load_state_dict_pre_hook(_without_dead_weights)  # type: ignore[no-untyped-call]

    def forward(self, cls: Tensor, patches: Tensor) -> tuple[Attended, Tensor]:
        """Class token (B, D) and patches (B, N, D) to what the class token attended to, and the patches for the next layer."""
        tokens = self.ln_1(patches)
        update, weights = self.self_attention(self.ln_1(cls), tokens)
        update = self.drop_path(update)
        if self.mlp is not None and self.ln_2 is not None:
            patches = patches + self.drop_path(self.mlp(self.ln_2(patches)))
        return Attended(cls + update, update, weights, tokens, self.self_attention), patches


def _without_dead_weights(layer: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Drop what released checkpoints hold of a last layer's norm and MLP: their code makes both, and never runs them."""
    for name in DEAD:
        state.pop(prefix + name, None)


class Encoder(nn.Module):
    """Position embedding, blocks of layers, final layer norm: a container that gives the released weights their names."""

    def __init__(self, shape: HiTShape, attention_dropout: float, drop_path: float) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.randn(1, 1 + shape.side**2, shape.width) * 0.02)  # entry 0: the class token
        final = (len(shape.blocks) - 1, shape.blocks[-1] - 1)
        blocks = [
            nn.ModuleDict(
                {
                    f"encoder_layer_{i}": HinderedLayer(shape, attention_dropout, drop_path, last=(block, i) == final)
                    for i in range(depth)
                }
            )
            for block, depth in enumerate(shape.blocks)
        ]
        self.layers = blocks[0] if len(blocks) == 1 else nn.ModuleDict({f"block_{b}": block for b, block in enumerate(blocks)})
        self.ln = nn.LayerNorm(shape.width, eps=1e-6)


class HiT(nn.Module):
    """(B, 3, size, size), normalised, to logits (B, outputs); `contributions` takes the logits apart, exactly."""

    def __init__(
        self, outputs: int, shape: HiTShape | Mapping[str, object], attention_dropout: float = 0.0, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.shape = HiTShape.model_validate(shape)
        self.class_token = nn.Parameter(torch.zeros(1, 1, self.shape.width))
        self.conv_proj = nn.Conv2d(3, self.shape.width, self.shape.patch, stride=self.shape.patch)
        self.encoder = Encoder(self.shape, attention_dropout, drop_path)
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(self.shape.width, outputs)))
        nn.init.trunc_normal_(self.conv_proj.weight, std=math.sqrt(1 / (3 * self.shape.patch**2)))
        if self.conv_proj.bias is not None:
            nn.init.zeros_(self.conv_proj.bias)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def head(self) -> nn.Linear:
        """The last linear layer, (K, D)."""
        return cast(nn.Linear, self.heads[0])

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, S, S) in [-1, 1] to logits (B, K)."""
        for attended in self.walk(x):
            cls = attended.cls
        return self.decide(cls)

    def walk(self, x: Tensor) -> Iterator[Attended]:
        """Take x (B, 3, S, S) through the layers, and yield what each did."""
        positions = self.encoder.pos_embedding
        patches = self.conv_proj(x).flatten(2).transpose(1, 2) + positions[:, 1:]
        cls = self.initial().expand(len(x), -1)
        begins = list(accumulate(self.shape.blocks))  # the layers before which patches are pooled
        for index, layer in enumerate(self.layers()):
            patches = _pooled(patches) if index in begins else patches
            attended, patches = layer(cls, patches)
            cls = attended.cls
            yield attended

    def layers(self) -> list[HinderedLayer]:
        """All layers, first to last."""
        return [module for module in self.encoder.layers.modules() if isinstance(module, HinderedLayer)]

    def parts(self) -> list[str]:
        """Names of all parts, from the head down to the input, for randomising one after the other."""
        layers = {id(module): name for name, module in self.named_modules()}
        named = [layers[id(layer)] for layer in reversed(self.layers())]
        return ["heads", "encoder.ln", *named, "encoder.pos_embedding", "class_token", "conv_proj"]

    def initial(self) -> Tensor:
        """The class token before any layer, (1, D)."""
        return self.class_token[:, 0] + self.encoder.pos_embedding[:, 0]

    def decide(self, cls: Tensor) -> Tensor:
        """Logits (B, K) of a class token (B, D)."""
        logits: Tensor = self.heads(self.encoder.ln(cls))
        return logits

    def contributions(self, x: Tensor) -> Contributions:
        """What every patch and every layer adds to every logit for x (B, 3, S, S).

        The initial class token and every bias are shared equally by the patches. A pooled token's part is shared equally by
        the patches below it.
        """
        walked = list(self.walk(x))
        initial, cls = self.initial().expand(len(x), -1), walked[-1].cls
        patches = initial[:, None] / self.shape.side**2
        for attended in walked:
            patches = patches + self.spread(attended.attention.per_token(attended.weights, attended.tokens))
        layers = torch.stack([initial, *(attended.update for attended in walked)], dim=1)
        grid = (self.shape.side, self.shape.side)
        by_patch = self._to_logits(patches, cls).transpose(1, 2).unflatten(2, grid)
        return Contributions(self.decide(cls), by_patch, self._to_logits(layers, cls))

    def spread(self, tokens: Tensor) -> Tensor:
        """Share what sits on a pooled grid equally among the patches of the finest, (B, n, D) to (B, N, D): sums are kept."""
        side, times = math.isqrt(tokens.shape[1]), self.shape.side // math.isqrt(tokens.shape[1])
        grid = tokens.unflatten(1, (side, side)).repeat_interleave(times, 1).repeat_interleave(times, 2)
        return grid.flatten(1, 2) / times**2

    def _to_logits(self, parts: Tensor, cls: Tensor) -> Tensor:
        """Parts (B, n, D), of which the class token (B, D) is the sum, to their shares of the logits without bias (B, n, K).

        The final layer norm is linear once the deviation of `cls` is known. Each part is centred by its own mean; the released
        code takes an equal share of the mean of `cls` from each, which sums to the same but credits a part for what the layer
        norm removes.
        """
        norm = self.encoder.ln
        deviation = (cls.var(-1, correction=0) + norm.eps).sqrt()[:, None, None]
        normed = (parts - parts.mean(-1, keepdim=True)) / deviation * norm.weight + norm.bias / parts.shape[1]
        return linear(normed, self.head.weight)


def _pooled(patches: Tensor) -> Tensor:
    """2 x 2 average pooling of a square grid of tokens, (B, N, D) to (B, N / 4, D)."""
    side = math.isqrt(patches.shape[1])
    return avg_pool2d(patches.transpose(1, 2).unflatten(2, (side, side)), 2).flatten(2).transpose(1, 2)


def hit(outputs: int = 1000, preset: str = "hit-s-no-pool") -> HiT:
    """A HiT by the name of its preset, for `module: cfx.networks.hit:hit`. Raises UserError for a name not in PRESETS."""
    if preset not in PRESETS:
        raise UserError(f"there is no HiT preset {preset!r}; choose one of {', '.join(PRESETS)}")
    return HiT(outputs, PRESETS[preset])
