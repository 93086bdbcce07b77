"""What a file is that is no image that is read: a Git LFS pointer, a clip, a list of names, another format."""

from __future__ import annotations

import codecs
import re

from famcli_models.files import GIT_LFS, LFS_POINTER

HEAD = 512  # bytes from the beginning of a file, enough to tell
_CONVERT = "convert it to JPEG or PNG"
_CLIP = "a video clip or an animation; take pictures from it, for example: ffmpeg -i CLIP frames/%06d.jpg"
_PACKED = "an archive; unpack it, or make a .tar of it, which is read in place"
_TEXT = "text; a list of names is given on standard input: fam predict - < LIST"
# What a file begins with, and what it is: of several that fit the first.
_KINDS: tuple[tuple[bytes, str], ...] = (
    (re.escape(LFS_POINTER), GIT_LFS),
    (rb".{4}ftypavi[fs]", f"an AVIF image; {_CONVERT}"),
    (rb".{4}ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)", f"a HEIC image; {_CONVERT}"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", f"a JPEG XL image; {_CONVERT}"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", f"a JPEG 2000 image; {_CONVERT}"),
    (rb"8BPS", f"a Photoshop file; {_CONVERT}"),
    (rb".{128}DICM", f"a DICOM image; {_CONVERT}"),
    (rb"%PDF", f"a PDF; {_CONVERT}"),
    (rb"GIF8|.{4}(ftyp|moov|mdat)|RIFF.{4}AVI |\x1a\x45\xdf\xa3|\0\0\x01[\xb3\xba]|OggS|FLV|0&\xb2u", _CLIP),
    (rb"\x1f\x8b|PK\x03\x04|PK\x05\x06|7z\xbc\xaf|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|Rar!|.{257}ustar", _PACKED),
    (rb"\s*(<\?xml[^>]*>\s*)?<(!DOCTYPE svg|svg)", f"an SVG drawing; {_CONVERT}"),
    (rb"\s*<(?i:!DOCTYPE html|html|head)", "a web page: download it again"),
)
_PICTURE = re.compile(rb"\xff\xd8\xff|\x89PNG|RIFF.{4}WEBP|II\*\0|MM\0\*", re.DOTALL)


def is_picture(head: bytes) -> bool:
    """Whether a file begins as a JPEG, PNG, WebP or TIFF does."""
    return _PICTURE.match(head) is not None


def describe(head: bytes) -> str | None:
    """What a file is by its first bytes, and what to do with it; ``None`` of what is not known."""
    for pattern, what in _KINDS:
        if re.match(pattern, head, re.DOTALL):
            return what
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return None
    return _TEXT if text and all(c.isprintable() or c in "\t\r\n" for c in text) else None
