"""Specifies RS256 and ES256 as verified without `cryptography`, which is the witness here, beside the RFCs' own examples."""

import base64
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.pipeline.signatures import EcKey, N, P, RsaKey

RSA_PRIVATE = rsa.generate_private_key(65537, 2048)
RSA_PUBLIC = RSA_PRIVATE.public_key().public_numbers()
RSA_KEY = RsaKey(RSA_PUBLIC.n, RSA_PUBLIC.e)
EC_PRIVATE = ec.generate_private_key(ec.SECP256R1())


def ec_key(private: ec.EllipticCurvePrivateKey) -> EcKey:
    point = private.public_key().public_numbers()
    return EcKey(point.x, point.y)


def ec_signature(private: ec.EllipticCurvePrivateKey, message: bytes) -> tuple[int, int]:
    return decode_dss_signature(private.sign(message, ec.ECDSA(SHA256())))


def raw(r: int, s: int) -> bytes:
    return r.to_bytes(32) + s.to_bytes(32)


def rsa_number(signature: bytes) -> int:
    return int.from_bytes(signature)


def padded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


CLAIMS = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"


def test_the_rfcs_example_of_es256() -> None:
    """https://www.rfc-editor.org/rfc/rfc7515#appendix-A.3"""
    key = EcKey(
        int.from_bytes(padded("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU")),
        int.from_bytes(padded("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0")),
    )
    message = f"eyJhbGciOiJFUzI1NiJ9.{CLAIMS}".encode()
    signature = padded("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q")
    assert key.verify(message, signature)
    assert not key.verify(message + b"A", signature)


class TestRs256:
    @given(st.binary(max_size=200))
    def test_what_is_signed_is_verified(self, message: bytes) -> None:
        assert RSA_KEY.verify(message, RSA_PRIVATE.sign(message, padding.PKCS1v15(), SHA256()))

    @given(st.integers(0, 2047), st.binary(min_size=1, max_size=40))
    def test_no_other_bit_is(self, bit: int, message: bytes) -> None:
        signature = RSA_PRIVATE.sign(message, padding.PKCS1v15(), SHA256())
        turned = (rsa_number(signature) ^ 1 << bit).to_bytes(256)
        assert not RSA_KEY.verify(message, turned)
        assert not RSA_KEY.verify(message[:-1], signature)

    def test_a_signature_of_another_scheme_is_none(self) -> None:
        assert not RSA_KEY.verify(b"m", RSA_PRIVATE.sign(b"m", padding.PKCS1v15(), SHA1()))  # noqa: S303 - what is refused
        assert not RSA_KEY.verify(b"m", RSA_PRIVATE.sign(b"m", padding.PSS(padding.MGF1(SHA256()), 32), SHA256()))

    def test_the_same_number_written_otherwise_is_none(self) -> None:
        signature = RSA_PRIVATE.sign(b"m", padding.PKCS1v15(), SHA256())
        assert not RSA_KEY.verify(b"m", b"\0" + signature)
        assert not RSA_KEY.verify(b"m", signature[1:])
        beyond = rsa_number(signature) + RSA_KEY.n
        assert not RSA_KEY.verify(b"m", beyond.to_bytes(257))
        assert not RSA_KEY.verify(b"m", b"")
        # Of the same length too, where the number is small enough.
        for count in range(200):
            message = count.to_bytes(2)
            beyond = rsa_number(RSA_PRIVATE.sign(message, padding.PKCS1v15(), SHA256())) + RSA_KEY.n
            if beyond < 1 << 2048:
                assert not RSA_KEY.verify(message, beyond.to_bytes(256))

    def test_padding_that_leaves_room_is_none(self) -> None:
        """Bleichenbacher's forgery of 2006 puts a short padding and rubbish behind the hash."""
        info = bytes.fromhex("3031300d060960864801650304020105000420") + sha256(b"m").digest()
        for block in (
            b"\x00\x01" + b"\xff" * 8 + b"\x00" + info + bytes(256 - 11 - len(info)),
            b"\x00\x01" + b"\xff" * (256 - 2 - len(info)) + info,
            b"\x00\x02" + b"\xff" * (256 - 3 - len(info)) + b"\x00" + info,
        ):
            number = int.from_bytes(block)
            if number < RSA_KEY.n:
                private = RSA_PRIVATE.private_numbers()
                assert not RSA_KEY.verify(b"m", pow(number, private.d, RSA_KEY.n).to_bytes(256))

    def test_weak_keys_are_refused(self) -> None:
        short = rsa.generate_private_key(65537, 1024).public_key().public_numbers()  # noqa: S505 - what is refused
        with pytest.raises(ValueError, match="1024 bits"):
            RsaKey(short.n, short.e)
        for n, e in (
            (RSA_KEY.n, 1),
            (RSA_KEY.n, 3),
            (RSA_KEY.n, 65538),
            (RSA_KEY.n + 1, 65537),
            (1 << 9000 | 1, 65537),
        ):
            with pytest.raises(ValueError, match="RSA"):
                RsaKey(n, e)


class TestEs256:
    @given(st.binary(max_size=200), st.integers(1, N - 1))
    def test_what_is_signed_is_verified(self, message: bytes, secret: int) -> None:
        private = ec.derive_private_key(secret, ec.SECP256R1())
        assert ec_key(private).verify(message, raw(*ec_signature(private, message)))

    @pytest.mark.parametrize("secret", [1, 2, 3, N - 1, N - 2, (N + 1) // 2])
    def test_where_the_sum_meets_its_special_cases(self, secret: int) -> None:
        """Public keys that are G, 2G, -G, …: equal and opposite points are added on the way."""
        private = ec.derive_private_key(secret, ec.SECP256R1())
        for count in range(20):
            message = count.to_bytes(2)
            r, s = ec_signature(private, message)
            assert ec_key(private).verify(message, raw(r, s))
            assert not ec_key(private).verify(message, raw(r, (s + 1) % N or 1))

    @given(st.integers(0, 511), st.binary(min_size=1, max_size=40))
    def test_no_other_bit_is(self, bit: int, message: bytes) -> None:
        signature = raw(*ec_signature(EC_PRIVATE, message))
        turned = (int.from_bytes(signature) ^ 1 << bit).to_bytes(64)
        assert not ec_key(EC_PRIVATE).verify(message, turned)
        assert not ec_key(EC_PRIVATE).verify(message[:-1], signature)

    def test_numbers_out_of_range_are_none(self) -> None:
        """CVE-2022-21449 let zeros pass for a signature of anything."""
        key = ec_key(EC_PRIVATE)
        r, s = ec_signature(EC_PRIVATE, b"m")
        for pair in ((0, 0), (r, 0), (0, s), (r, N), (N, s), (N, N), (r, 2**256 - 1)):
            assert not key.verify(b"m", raw(*pair))

    def test_der_and_other_lengths_are_none(self) -> None:
        key = ec_key(EC_PRIVATE)
        assert not key.verify(b"m", EC_PRIVATE.sign(b"m", ec.ECDSA(SHA256())))
        r, s = ec_signature(EC_PRIVATE, b"m")
        for longer in (raw(r, s) + b"\0", r.to_bytes(32) + s.to_bytes(33), r.to_bytes(33) + s.to_bytes(32)):
            assert not key.verify(b"m", longer)
        assert not key.verify(b"m", b"")

    def test_a_point_beside_the_curve_is_no_key(self) -> None:
        key = ec_key(EC_PRIVATE)
        for x, y in ((0, 0), (key.x, key.y + 1), (key.x + P, key.y), (key.x, P), (1, 1)):
            with pytest.raises(ValueError, match="P-256"):
                EcKey(x, y)
