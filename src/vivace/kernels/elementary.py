"""exp, log and what follows from them, written so that a compiler can vectorise loops over them.

The mathematics library is called one number at a time; these are plain arithmetic (range reduction on
the bits, then a short series), so a loop over them runs on whole vector registers. They keep float32
in float32, let NaN through, and are accurate where their result is close to zero.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy import float32, float64, int32, int64

# "contract" (fused multiply-add) is the only liberty: reordering would undo the exact differences.
inlined = njit(forceinline=True, error_model="numpy", fastmath={"contract"})

_BITS = {
    types.float32: (types.int32, ir.IntType(32)),
    types.int32: (types.float32, ir.FloatType()),
    types.float64: (types.int64, ir.IntType(64)),
    types.int64: (types.float64, ir.DoubleType()),
}


def same_bits(typing_context: Any, value: Any) -> tuple:
    """The same bits as an integer, or back as a float."""
    as_type, as_ir = _BITS[value]

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], as_ir)

    return as_type(value), generate


reinterpret: Any = intrinsic(same_bits)


# float32 ----------------------------------------------------------------------------------------

ONE = float32(1.0)
HALF = float32(0.5)
TWO = float32(2.0)
LOG2_E = float32(1.4426950408889634)
LN2_HIGH = float32(0.693359375)  # few bits, so that k * LN2_HIGH is exact
LN2_LOW = float32(-2.12194440054690581e-4)
LN2 = float32(0.6931471805599453)
ROUND = float32(12582912.0)  # 1.5 * 2**23: adding it leaves the nearest integer in the low bits
EXP_LOWEST, EXP_HIGHEST = float32(-87.0), float32(88.0)
SQRT_HALF_BITS = int32(0x3F3504F3)
ONE_BITS = int32(0x3F800000)
FRACTION = int32(0x007FFFFF)
# Interpolated at Chebyshev nodes of the reduced range, to 2e-8:
# (exp(r) - 1 - r) / r**2 and (log(1 + f) - f + f**2 / 2) / f**3
E2, E3, E4, E5, E6 = (
    float32(c) for c in (0.5, 0.1666657703, 0.0416665547, 0.0083631731, 0.0013926176)
)
L3, L4, L5, L6, L7, L8, L9, L10 = (
    float32(c)
    for c in (
        *(0.3333333073, -0.2500030642, 0.200010451, -0.1664128146),
        *(0.1421449592, -0.1299818376, 0.1262231985, -0.0790274377),
    )
)


@inlined
def power_and_excess(x):
    """``(2**n, e)`` with ``exp(x) = 2**n * (1 + e)``; ``x`` is cut at -87 and 88."""
    x = min(max(x, EXP_LOWEST), EXP_HIGHEST)  # NaN stays NaN, as the first argument
    shifted = x * LOG2_E + ROUND
    n = shifted - ROUND
    r = x - n * LN2_HIGH - n * LN2_LOW
    series = r * r * (E2 + r * (E3 + r * (E4 + r * (E5 + r * E6))))
    power = reinterpret(int32(int32(reinterpret(shifted) << int32(23)) + ONE_BITS))
    return power, r + series


@inlined
def exp(x):
    """``exp(x)``, at least ``exp(-87)``."""
    power, excess = power_and_excess(x)
    return power + power * excess


@inlined
def exp_and_expm1(x):
    """``exp(x)`` and ``exp(x) - 1``, the latter accurate near ``x = 0``."""
    power, excess = power_and_excess(x)
    scaled = power * excess
    return power + scaled, scaled + (power - ONE)


@inlined
def log_parts(u, above_one):
    """``(k, f, t)`` with ``log(u) = k log(2) + f - f**2 / 2 + f**2 t``; ``above_one`` is ``u - 1``."""
    shifted = int32(reinterpret(u) - SQRT_HALF_BITS)
    k = int32(shifted >> int32(23))
    mantissa = reinterpret(int32(int32(shifted & FRACTION) + SQRT_HALF_BITS))
    f = above_one if k == int32(0) else mantissa - ONE + (u - u)  # NaN stays NaN
    tail = L3 + f * (L4 + f * (L5 + f * (L6 + f * (L7 + f * (L8 + f * (L9 + f * L10))))))
    return float32(k), f, f * tail


@inlined
def log_near(u, above_one):
    """``log(u)``, accurate near 1 too if ``above_one`` is ``u - 1`` to all digits."""
    k, f, t = log_parts(u, above_one)
    return k * LN2_HIGH + (f + (f * f * (t - HALF) + k * LN2_LOW))


@inlined
def log1p_and_lag(z, inverse):
    """``log(1 + z)`` and ``log(1 + z) - z / (1 + z)``, accurate near 0; inverse: ``1 / (1 + z)``."""
    k, f, t = log_parts(ONE + z, z)
    log = k * LN2_HIGH + (f + (f * f * (t - HALF) + k * LN2_LOW))
    # with k = 0, f is z: the terms linear in z cancel by hand, not in float32
    near = f * f * (inverse - HALF + t)
    return log, near if k == float32(0.0) else log - z * inverse


# float64 ----------------------------------------------------------------------------------------

LN2_WIDE = 0.6931471805599453
WIDE_SQRT_HALF_BITS = int64(0x3FE6A09E667F3BCD)
WIDE_FRACTION = int64(0x000FFFFFFFFFFFFF)


@inlined
def wide_log(u):
    """``log(u)`` of a positive float64, to 2e-12."""
    shifted = reinterpret(u) - WIDE_SQRT_HALF_BITS
    k = float64(shifted >> int64(52))
    f = reinterpret((shifted & WIDE_FRACTION) + WIDE_SQRT_HALF_BITS) - 1.0 + (u - u)
    s = f / (2.0 + f)
    q = s * s
    high = q * (2 / 9 + q * (2 / 11 + q * (2 / 13 + q * (2 / 15))))
    return k * LN2_WIDE + (2.0 * s + s * q * (2 / 3 + q * (2 / 5 + q * (2 / 7 + high))))
