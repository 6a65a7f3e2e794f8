"""Verifies RS256 and ES256 with Python's integers alone: no `cryptography`, which takes 16 MB of a layer (ADR 0009).

Only verifying is done here, and it handles nothing that is secret: the key is public, and so are the message and the
signature. How long it takes tells nobody anything.

Sources: https://www.rfc-editor.org/rfc/rfc7518#section-3 (the algorithms), https://www.rfc-editor.org/rfc/rfc8017
#section-8.2.2 (RSASSA-PKCS1-v1_5), FIPS 186-5 section 6.4.2 (ECDSA), SP 800-186 section 3.2.1.3 (P-256)
"""

from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Final

_LEAST_RSA_BITS: Final = 2048
"""RFC 7518, 3.3."""
_MOST_RSA_BITS: Final = 8192
"""Bounds the work that a key can make."""
_SHA256_DIGEST_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")
"""The DER that stands before a SHA-256 hash: RFC 8017, 9.2, note 1."""

P: Final = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B: Final = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_G: Final = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)

Point = tuple[int, int, int]
"""Jacobian: the affine point is (x / z², y / z³); z = 0 is the point at infinity."""
_INFINITY: Final[Point] = (1, 1, 0)


@dataclass(frozen=True, slots=True)
class RsaKey:
    """Verifies RS256."""

    n: int
    e: int

    def __post_init__(self) -> None:
        """Raises `ValueError` for a key that is too short to be believed, too long to be worked with, or no key."""
        if not _LEAST_RSA_BITS <= self.n.bit_length() <= _MOST_RSA_BITS:
            raise ValueError(f"an RSA key of {self.n.bit_length()} bits")
        if not (65537 <= self.e < 1 << 32 and self.e & self.n & 1):
            raise ValueError("an unusual RSA exponent or modulus")

    def verify(self, message: bytes, signature: bytes) -> bool:
        """The padding is made and compared, never parsed: a lenient parser is what forgeries live on."""
        size = (self.n.bit_length() + 7) // 8
        number = int.from_bytes(signature)
        if len(signature) != size or number >= self.n:
            return False
        tail = b"\x00" + _SHA256_DIGEST_INFO + sha256(message).digest()
        expected = b"\x00\x01" + b"\xff" * (size - 2 - len(tail)) + tail
        return compare_digest(pow(number, self.e, self.n).to_bytes(size), expected)


@dataclass(frozen=True, slots=True)
class EcKey:
    """Verifies ES256: a point of P-256, affine."""

    x: int
    y: int

    def __post_init__(self) -> None:
        """Raises `ValueError` for what is no point of the curve."""
        x, y = self.x, self.y
        if not (0 <= x < P and 0 <= y < P) or (y * y - (x * x * x - 3 * x + _B)) % P:
            raise ValueError("no point of P-256")

    def verify(self, message: bytes, signature: bytes) -> bool:
        """A signature is r and s, 32 bytes each (RFC 7518, 3.4)."""
        if len(signature) != 64:
            return False
        r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
        if not (0 < r < N and 0 < s < N):
            return False
        w = pow(s, -1, N)
        hashed = int.from_bytes(sha256(message).digest())
        x, _, z = _sum_of_multiples(hashed * w % N, (*_G, 1), r * w % N, (self.x, self.y, 1))
        return z != 0 and x * pow(z, -2, P) % P % N == r


PublicKey = RsaKey | EcKey


def _sum_of_multiples(u: int, g: Point, v: int, q: Point) -> Point:
    """u·g + v·q, both at once: one doubling a bit, and an addition where either has it set."""
    steps = (_INFINITY, g, q, _add(g, q))
    found = _INFINITY
    for at in range(max(u.bit_length(), v.bit_length()) - 1, -1, -1):
        found = _double(found)
        if step := (u >> at & 1) + 2 * (v >> at & 1):
            found = _add(found, steps[step])
    return found


def _double(point: Point) -> Point:
    """dbl-2001-b of https://hyperelliptic.org/EFD/g1p/auto-shortw-jacobian-3.html."""
    x, y, z = point
    if z == 0:
        return _INFINITY
    delta, gamma = z * z % P, y * y % P
    beta = x * gamma % P
    alpha = 3 * (x - delta) * (x + delta) % P
    x3 = (alpha * alpha - 8 * beta) % P
    return x3, (alpha * (4 * beta - x3) - 8 * gamma * gamma) % P, 2 * y * z % P


def _add(one: Point, other: Point) -> Point:
    """The textbook's sum, with its special cases: equal points, opposite points, nothing."""
    x1, y1, z1 = one
    x2, y2, z2 = other
    if z1 == 0:
        return other
    if z2 == 0:
        return one
    z1_squared, z2_squared = z1 * z1 % P, z2 * z2 % P
    u1, s1 = x1 * z2_squared % P, y1 * z2_squared * z2 % P
    h, r = (x2 * z1_squared - u1) % P, (y2 * z1_squared * z1 - s1) % P
    if h == 0:
        return _double(one) if r == 0 else _INFINITY
    h_squared = h * h % P
    h_cubed, v = h_squared * h % P, u1 * h_squared % P
    x3 = (r * r - h_cubed - 2 * v) % P
    return x3, (r * (v - x3) - s1 * h_cubed) % P, h * z1 * z2 % P
