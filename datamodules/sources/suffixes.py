"""Suffixes of files, lower-case and without the dot: which are images, which are not."""

from PIL import features

AVIF = "avif" in features.modules and bool(features.check("avif"))  # of this Pillow

IMAGES = ("apng", "bmp", "dib", "gif", "jfif", "jpe", "jpeg", "jpg", "mpo", "pbm", "pgm", "png",
          "pnm", "ppm", "tif", "tiff", "webp", *["avif", "avifs"] * AVIF)  # fmt: skip

UNREAD = frozenset(  # images and videos that are left out, with their number
    """
    ai arw avi avif avifs blp bufr bw cr2 cr3 cur dcm dcx dds dng emf eps exr fit fits flc fli
    ftc ftu gbr grib hdr heic heif hif icb icns ico iim im j2c j2k jp2 jpc jpf jpx jxl jxr m4v mkv
    mov mp4 mpeg mpg msp nef orf palm pam pcd pcx pfm psd pxr qoi raf ras raw rgb rgba rw2 sgi svg
    svgz tga vda vst webm wmf xbm xcf xpm
    """.split()
).difference(IMAGES)

PACKED = frozenset(  # what may hold images, and is read where it is given by its own name
    """
    7z bz2 gz h5 hdf hdf5 lmdb mat npy npz pickle pkl pt pth rar record safetensors tar tfrecord
    tgz xz zip zst
    """.split()
)

OTHERS = frozenset(  # no images, and not opened to see
    """
    arrow cfg csv htm html ini ipynb json jsonl log md ndjson parquet py rst sh srt toml tsv txt
    xml yaml yml
    """.split()
)
BUNDLE = ".safetensors"  # of a bundle of references
