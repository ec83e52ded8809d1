"""Which dtype a device multiplies matrices fastest in.

In: a device. Out: a dtype. Decided from what the processor reports, never by timing, so that two
runs on the same machine always agree. Must not know: models, or what is multiplied.
"""

import torch

_CPU_BF16_FEATURES = ("amx_bf16", "avx512_bf16")


def fast_matmul_dtype(device: torch.device | str) -> torch.dtype:
    """Return bfloat16 where the device has bf16 matrix instructions, else float32.

    A CPU without them emulates bf16 and is several times slower than in float32.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    if kind == "cpu":
        reported = torch.cpu.get_capabilities()
        if any(reported.get(feature, False) for feature in _CPU_BF16_FEATURES):
            return torch.bfloat16
    return torch.float32
