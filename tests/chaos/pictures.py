"""Pictures that say in a comment of theirs what is to become of them."""

MARK = b"\xff\xfe"
"""Opens a comment in a JPEG: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, B.2.4.5."""
LENGTH = 64


def tagged(jpeg: bytes, tag: str) -> bytes:
    """The JPEG with the tag in a comment right after its beginning."""
    payload = tag.encode().ljust(LENGTH)
    return jpeg[:2] + MARK + (len(payload) + 2).to_bytes(2) + payload + jpeg[2:]


def tag_of(jpeg: bytes) -> str:
    """The tag of a picture that `tagged` made."""
    assert jpeg[2:4] == MARK
    return jpeg[6 : 6 + LENGTH].decode().strip()
