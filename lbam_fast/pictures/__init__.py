"""Read pictures and masks from files without losing anything, and write pictures back.

PNG, JPEG, WebP, TIFF and BMP are read and written; GIF, AVIF and, with pillow-heif, HEIF are read. Pillow decodes and
encodes, except where it would lose bits: 16-bit colour is decoded by OpenCV and encoded here, and so is every TIFF.

A file is recognised by its content, so a wrong suffix does no harm. Files with several pictures (animations, pages)
are refused, because all but one of them would be lost.

All functions may be called from several threads at once. A picture may have up to ``MAX_PIXELS`` pixels, whatever
Pillow's own limit is; only for WebP does Pillow's limit (178 million pixels unless changed) count too.
"""

from lbam_fast.pictures.folders import visible_files
from lbam_fast.pictures.picture import Picture, PictureError, descriptive, output_suffixes, readable_suffixes
from lbam_fast.pictures.reading import EXIF_DAMAGE, MAX_PIXELS, decode_picture, mask_of, read_mask, read_picture
from lbam_fast.pictures.tiff import stored_size
from lbam_fast.pictures.writing import check_encoding, check_output, copy_picture, encode_picture, losses, write_picture

__all__ = [
    "EXIF_DAMAGE",
    "MAX_PIXELS",
    "Picture",
    "PictureError",
    "check_encoding",
    "check_output",
    "copy_picture",
    "decode_picture",
    "descriptive",
    "encode_picture",
    "losses",
    "mask_of",
    "output_suffixes",
    "read_mask",
    "read_picture",
    "readable_suffixes",
    "stored_size",
    "visible_files",
    "write_picture",
]
