"""Media types by file name: a frozen table of our own, so that every machine answers the same.

Sources: the IANA registry of media types; RFC 9239 for JavaScript; the WHATWG MIME Sniffing standard for fonts.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple


class MediaType(NamedTuple):
    content_type: str
    """The value of Content-Type. Types of text say that they are UTF-8; JavaScript and JSON are so by definition, and
    XML says itself what it is."""
    compressible: bool
    """Worth compressing: side files (.br .zst .gz) are looked for with these types only."""


UTF_8 = "; charset=utf-8"
"""What the types of text in the table end with."""

DEFAULT = MediaType("application/octet-stream", compressible=False)

_TEXT = """
text/html                       html htm shtml
text/css                        css
text/plain                      txt text log conf cfg ini toml env lst list diff patch asc rst tex sty
text/plain                      c h cc cpp hpp cxx py pyi rb pl pm go rs java kt swift scala lua sh bash
text/plain                      zsh fish sql awk r jl hs ml clj
text/plain                      properties gitignore nfo srt
text/markdown                   md markdown mkd
text/csv                        csv
text/tab-separated-values       tsv
text/calendar                   ics ifb
text/vcard                      vcf
text/vtt                        vtt
text/x-component                htc
text/vnd.wap.wml                wml
text/turtle                     ttl
text/n3                         n3
text/troff                      man
"""

_COMPRESSIBLE = """
text/javascript                 js mjs cjs
application/json                json map
application/ld+json             jsonld
application/geo+json            geojson
application/manifest+json       webmanifest
application/feed+json           jsonfeed
application/schema+json         jsonschema
application/jsonl               jsonl ndjson
application/json5               json5
application/yaml                yaml yml
application/xml                 xml xsd rng xbl
application/xhtml+xml           xhtml xht
application/xslt+xml            xsl xslt
application/xml-dtd             dtd
application/atom+xml            atom
application/rss+xml             rss
application/rdf+xml             rdf
application/mathml+xml          mathml
application/gpx+xml             gpx
application/ttml+xml            ttml
application/xspf+xml            xspf
application/dash+xml            mpd
application/opensearchdescription+xml  osdx
application/vnd.google-earth.kml+xml   kml
application/vnd.mozilla.xul+xml xul
application/vnd.apple.mpegurl   m3u8
application/vnd.ms-fontobject   eot
application/wasm                wasm
application/postscript          ps eps ai
application/rtf                 rtf
application/graphql             graphql gql
application/sparql-query        rq
application/n-triples           nt
application/n-quads             nq
application/trig                trig
image/svg+xml                   svg
image/bmp                       bmp dib
image/x-icon                    ico cur
image/vnd.adobe.photoshop       psd
font/ttf                        ttf
font/otf                        otf
font/collection                 ttc
model/gltf+json                 gltf
model/obj                       obj
model/mtl                       mtl
model/stl                       stl
model/vrml                      wrl vrml
"""

_COMPRESSED = """
image/png                       png
image/apng                      apng
image/jpeg                      jpg jpeg jpe jfif pjpeg
image/gif                       gif
image/webp                      webp
image/avif                      avif avifs
image/jxl                       jxl
image/heic                      heic
image/heif                      heif
image/tiff                      tif tiff
image/jp2                       jp2
image/ktx2                      ktx2
image/vnd.djvu                  djvu djv
image/svg+xml                   svgz
font/woff                       woff
font/woff2                      woff2
audio/mpeg                      mp3 mpga
audio/mp4                       m4a m4b
audio/aac                       aac
audio/ogg                       ogg oga spx
audio/opus                      opus
audio/flac                      flac
audio/wav                       wav
audio/webm                      weba
audio/midi                      mid midi
audio/aiff                      aif aiff
audio/x-ms-wma                  wma
audio/mpegurl                   m3u
video/mp4                       mp4 m4v mp4v
video/webm                      webm
video/ogg                       ogv
video/mpeg                      mpeg mpg mpe
video/mp2t                      ts m2ts
video/iso.segment               m4s
video/quicktime                 mov qt
video/matroska                  mkv
video/x-msvideo                 avi
video/x-flv                     flv
video/x-ms-wmv                  wmv
video/x-ms-asf                  asf
video/3gpp                      3gp
video/3gpp2                     3g2
model/gltf-binary               glb
application/pdf                 pdf
application/epub+zip            epub
application/zip                 zip
application/gzip                gz tgz
application/zstd                zst tzst
application/x-brotli            br
application/x-bzip2             bz2 tbz tbz2
application/x-xz                xz txz
application/x-lzip              lz
application/x-lzma              lzma
application/x-tar               tar
application/x-7z-compressed     7z
application/vnd.rar             rar
application/vnd.ms-cab-compressed      cab
application/java-archive        jar war ear
application/java-vm             class
application/vnd.android.package-archive apk
application/vnd.debian.binary-package  deb udeb
application/x-rpm               rpm
application/x-apple-diskimage   dmg
application/x-iso9660-image     iso
application/vnd.microsoft.portable-executable  exe dll
application/x-msi               msi
application/x-xpinstall         xpi
application/x-chrome-extension  crx
application/x-bittorrent        torrent
application/x-shockwave-flash   swf
application/msword              doc dot
application/vnd.ms-excel        xls
application/vnd.ms-powerpoint   ppt
application/vnd.openxmlformats-officedocument.wordprocessingml.document    docx
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet          xlsx
application/vnd.openxmlformats-officedocument.presentationml.presentation  pptx
application/vnd.oasis.opendocument.text          odt
application/vnd.oasis.opendocument.spreadsheet   ods
application/vnd.oasis.opendocument.presentation  odp
application/vnd.oasis.opendocument.graphics      odg
application/vnd.google-earth.kmz       kmz
application/vnd.sqlite3         sqlite sqlite3 db
application/vnd.apache.parquet  parquet
application/vnd.apache.arrow.file      arrow feather
application/geopackage+sqlite3  gpkg
application/pgp-signature       sig
application/pkix-cert           cer
application/pkix-crl            crl
application/x-x509-ca-cert      crt der
application/x-pem-file          pem
application/pkcs10              p10
application/x-pkcs12            p12 pfx
application/ogg                 ogx
application/warc                warc
application/cbor                cbor
application/protobuf            pb
application/x-ipynb+json        ipynb
application/octet-stream        bin dat img so o a
"""


def _rows(block: str, suffix: str, *, compressible: bool) -> list[tuple[bytes, MediaType]]:
    rows = []
    for line in block.split("\n"):
        content_type, *extensions = line.split() or [""]
        media = MediaType(content_type + suffix, compressible)
        rows += [(extension.encode("ascii"), media) for extension in extensions]
    return rows


TABLE = MappingProxyType(
    dict(
        _rows(_TEXT, UTF_8, compressible=True)
        + _rows(_COMPRESSIBLE, "", compressible=True)
        + _rows(_COMPRESSED, "", compressible=False)
    )
)
"""File name extension (lower case, without the dot) -> media type."""


def extension(path: bytes) -> bytes:
    """The extension that the type is found under, in lower case; b"" when the last segment has none."""
    name = path.rpartition(b"/")[2]
    return name.rpartition(b".")[2].lower() if b"." in name else b""


def media_type(path: bytes) -> MediaType:
    """The media type of a file with this path; `DEFAULT` when its extension is not in the table."""
    return TABLE.get(extension(path), DEFAULT)


_COMPRESSIBLE_TYPES = frozenset(kind.content_type.removesuffix(UTF_8) for kind in TABLE.values() if kind.compressible)


def is_compressible(content_type: str) -> bool:
    """Whether files of a type that is not from the table are worth compressing."""
    essence = content_type.partition(";")[0].strip().lower()
    return essence in _COMPRESSIBLE_TYPES or essence.startswith("text/") or essence.endswith(("+json", "+xml", "+text"))


def with_charset(content_type: str, charset: str) -> str:
    """The type with this charset, when it is one of text, which names none yet. "": as it is. JavaScript is UTF-8 by
    definition (RFC 9239 section 4.2)."""
    lower = content_type.lower()
    if not charset or not lower.startswith("text/") or lower.startswith("text/javascript") or "charset=" in lower:
        return content_type
    return f"{content_type}; charset={charset}"
