//! What a file holds, by the end of its name.

/// The content type of a file with this name, `application/octet-stream` if nobody knows it.
///
/// Those that browsers load, and those that people offer for download; a server that has more to
/// say about a file answers with a [`Reply`](crate::http::Reply) of its own.
pub(super) fn content_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let mut lower = [0; EXTENSION_BYTES_MAX];
    let Some(lower) = lower.get_mut(..extension.len()) else { return OTHER };
    lower.copy_from_slice(extension.as_bytes());
    lower.make_ascii_lowercase();
    let known = TYPES.iter().find(|(extensions, _)| {
        extensions.split(' ').any(|extension| extension.as_bytes() == lower)
    });
    known.map_or(OTHER, |(_, content_type)| content_type)
}

const OTHER: &str = "application/octet-stream";

/// The longest extension in the table, in bytes.
const EXTENSION_BYTES_MAX: usize = 11;

/// As the registry of IANA has them; text says that it is UTF-8.
const TYPES: [(&str, &str); 42] = [
    ("html htm", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js mjs", "text/javascript; charset=utf-8"),
    ("json map", "application/json"),
    ("txt text log", "text/plain; charset=utf-8"),
    ("md markdown", "text/markdown; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("xml", "text/xml; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("ico", "image/vnd.microsoft.icon"),
    ("bmp", "image/bmp"),
    ("tif tiff", "image/tiff"),
    ("woff2", "font/woff2"),
    ("woff", "font/woff"),
    ("ttf", "font/ttf"),
    ("otf", "font/otf"),
    ("mp4 m4v", "video/mp4"),
    ("webm", "video/webm"),
    ("ogv", "video/ogg"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("m4a", "audio/mp4"),
    ("ogg oga opus", "audio/ogg"),
    ("wav", "audio/wav"),
    ("flac", "audio/flac"),
    ("wasm", "application/wasm"),
    ("webmanifest", "application/manifest+json"),
    ("jsonld", "application/ld+json"),
    ("atom", "application/atom+xml"),
    ("rss", "application/rss+xml"),
    ("xhtml", "application/xhtml+xml"),
    ("pdf", "application/pdf"),
    ("zip", "application/zip"),
    ("gz", "application/gzip"),
    ("zst", "application/zstd"),
    ("tar", "application/x-tar"),
    ("vtt", "text/vtt; charset=utf-8"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_types() {
        for (name, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a.b.JS", "text/javascript; charset=utf-8"),
            ("site.webmanifest", "application/manifest+json"),
            ("x.tar.gz", "application/gzip"),
            ("成功.PNG", "image/png"),
            ("README", OTHER),
            ("x.", OTHER),
            ("", OTHER),
            ("x.unknown", OTHER),
            ("x.much-too-long-to-be-known", OTHER),
            ("html", OTHER),
        ] {
            assert_eq!(content_type(name), expected, "{name}");
        }
        let longest = TYPES.iter().flat_map(|(e, _)| e.split(' ')).map(str::len).max();
        assert_eq!(longest, Some(EXTENSION_BYTES_MAX));
    }
}
