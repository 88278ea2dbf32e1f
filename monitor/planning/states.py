"""Layers that keep a state of a fixed size, and no tokens: what they are, and how many parameters each has.

The formulas are those of transformers' modules, which are named at each; norms of a few values are left out.
"""

from __future__ import annotations

from monitor.planning.fields import Fields
from monitor.planning.shape import State


def read_state(text: Fields, hidden: int, heads: int) -> State:
    """What the layers of ``text`` that are no attention are."""
    model = str(text.raw("model_type") or "")
    for known in (_delta(text, hidden), _kimi(text, hidden), _mamba2(text, hidden), _mamba(text, hidden)):
        if known is not None:
            return known
    if (kernel := text.optional("conv_L_cache")) is not None:  # Lfm2ShortConv
        return State("short convolution", 4 * hidden**2 + kernel * hidden)
    if model.startswith("minimax") or text.raw("attn_type_list"):  # MiniMaxLightningAttention
        wide = heads * (text.optional("head_dim") or hidden // heads)
        return State("lightning attention", 5 * hidden * wide + wide)
    if text.raw("hybrid_override_pattern") or _named(text, "mamba"):
        return State("Mamba", 6 * hidden**2, known=False)
    return State("linear attention", 6 * hidden**2, known=False)


def _named(text: Fields, part: str) -> bool:
    kinds = text.raw("layer_types") or text.raw("layers_block_type")
    return isinstance(kinds, list) and any(part in str(one) for one in kinds)


def _delta(text: Fields, hidden: int) -> State | None:
    """Of Qwen3NextGatedDeltaNet."""
    many = text.optional("linear_num_value_heads")
    value, key = text.optional("linear_value_head_dim"), text.optional("linear_key_head_dim")
    groups = text.optional("linear_num_key_heads")
    if many is None or value is None or key is None or groups is None:
        return None
    values, keys = many * value, groups * key
    kernel = text.optional("linear_conv_kernel_dim") or 4
    inward = hidden * (2 * keys + 2 * values + 2 * many)
    return State("Gated DeltaNet", inward + (2 * keys + values) * kernel + 2 * many + value + values * hidden)


def _kimi(text: Fields, hidden: int) -> State | None:
    """Of Kimi Delta Attention: three projections with a convolution each, two gates by way of one head's size."""
    linear = text.child("linear_attn_config")
    many, size = (None, None) if linear is text else (linear.optional("num_heads"), linear.optional("head_dim"))
    if many is None or size is None:
        return None
    wide = many * size
    kernel = linear.optional("short_conv_kernel_size") or 4
    gates = 2 * (hidden * size + size * wide) + hidden * many
    return State("Kimi Delta Attention", 4 * hidden * wide + 3 * wide * kernel + gates + many + wide + size)


def _mamba2(text: Fields, hidden: int) -> State | None:
    """Of NemotronHMamba2Mixer, BambaMixer and others: it has heads."""
    many = text.optional("mamba_num_heads", "mamba_n_heads", "n_mamba_heads")
    state = text.optional("ssm_state_size", "mamba_d_state")
    if many is None or state is None:
        return None
    size = next((found for name in ("mamba_head_dim", "mamba_d_head", "mamba_headdim")
                 if isinstance(found := text.raw(name), int) and found > 0), None)  # fmt: skip
    wide = text.optional("mamba_d_ssm") or (many * size if size else _expand(text) * hidden)
    groups = text.optional("n_groups", "mamba_n_groups", "mamba_ngroups") or 1
    convolved = wide + 2 * groups * state
    kernel = text.optional("conv_kernel", "mamba_d_conv") or 4
    return State(
        "Mamba 2", hidden * (wide + convolved + many) + convolved * (kernel + 1) + 3 * many + wide + wide * hidden
    )


def _mamba(text: Fields, hidden: int) -> State | None:
    """Of JambaMambaMixer."""
    state = text.optional("mamba_d_state")
    if state is None:
        return None
    wide = _expand(text) * hidden
    rank = found if isinstance(found := text.raw("mamba_dt_rank"), int) and found > 0 else -(-hidden // 16)  # "auto"
    kernel = text.optional("mamba_d_conv") or 4
    selective = wide * (rank + 2 * state) + rank * wide + wide + rank + 2 * state
    return State("Mamba", 3 * hidden * wide + wide * (kernel + 1) + selective + wide * state + wide)


def _expand(text: Fields) -> int:
    return text.optional("mamba_expand", "expand") or 2
