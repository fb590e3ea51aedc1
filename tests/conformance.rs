//! What HTTP says of an answer ([RFC 9110], [RFC 9111]), over every kind of store, before and after a cache was filled, and
//! beside nginx, which serves the same files.
//!
//! [RFC 9110]: https://www.rfc-editor.org/rfc/rfc9110
//! [RFC 9111]: https://www.rfc-editor.org/rfc/rfc9111

#![allow(missing_docs)]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, SystemTime};

use http::{Method, Response};
use httpdate::{fmt_http_date, parse_http_date};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Gate, Native, OverS3, S3, Worker, agent, filled, header, send, tool, trusting};

/// Requests, what is sent along, and what is answered: the status, headers, and the body. Whoever asks is let in by a
/// signature in the query, unless they are `unsigned`.
///
/// `{etag}` and `{modified}` are what a plain GET of the same path says, `{weak}` is the tag as a weak one, `{bare}` without
/// its quotes, and `{earlier}` and `{later}` are an hour away from when it was modified. An answer has a header that is
/// said to be nothing (`Content-Range:`) not at all. `{signed}` is the playlist with the viewer's authority in it, and `*`
/// any body.
///
/// The last column says where nginx differs, with what, and why; `-` is a question that nginx cannot be asked. It is not
/// asked what is answered with a signature in it.
const TABLE: &str = r#"
# What there is.
GET  /a/1.m4s       |                          | 200 | Content-Type: video/iso.segment; Content-Length: 10; Cache-Control: {immutable}; Accept-Ranges: bytes; Content-Range: | 0123456789 |
GET  /a/clip.mp4    |                          | 200 | Content-Type: video/mp4; Cache-Control: {immutable}       | mp4   |
GET  /a/clip.ts     |                          | 200 | Content-Type: video/mp2t; Cache-Control: {immutable}      | ts    |
GET  /a/clip.aac    |                          | 200 | Content-Type: audio/aac; Cache-Control: {immutable}       | aac   |
GET  /a/poster.jpg  |                          | 200 | Content-Type: image/jpeg; Cache-Control: {immutable}      | jpg   |
GET  /a/1.key       |                          | 200 | Content-Type: application/octet-stream; Cache-Control: private | 16 octets, no more |
GET  /a/notes.xyz   |                          | 200 | Content-Type: application/octet-stream; Cache-Control: private | notes |
GET  /a/empty.m4s   |                          | 200 | Content-Length: 0; Cache-Control: {immutable}             |       |
GET  /a/index.m3u8  |                          | 200 | Content-Type: application/vnd.apple.mpegurl; Cache-Control: private, no-cache; Vary: Accept-Encoding; Accept-Ranges:; Last-Modified: | {signed} | -
GET  /a/words.vtt   |                          | 200 | Content-Type: text/vtt; Cache-Control: private, no-cache; Vary: Accept-Encoding | {words} | -
GET  /a/asset.json  |                          | 200 | Content-Type: application/json; Cache-Control: private, no-cache; Vary: Accept-Encoding | {"state":"ready"} | -
GET  /p/index.m3u8  | unsigned                 | 200 | Content-Type: application/vnd.apple.mpegurl; Cache-Control: private; Accept-Ranges: bytes | {as stored} |
GET  /p/words.vtt   | unsigned                 | 200 | Content-Type: text/vtt; Cache-Control: private            | {words} |
GET  /p/asset.json  | unsigned                 | 200 | Content-Type: application/json; Cache-Control: private    | {"state":"ready"} |

# What there is not.
GET  /a/none.m4s    |                          | 404 | Cache-Control: no-store; Content-Type: text/plain; ETag:  | Not Found |
GET  /a/none.m3u8   |                          | 404 | Cache-Control: no-store                                   | Not Found |
GET  /a/none.m4s    | Range: bytes=0-          | 404 | Content-Range:                                            | Not Found |
GET  /a/none.m4s    | If-None-Match: *         | 404 |                                                           | Not Found |
GET  /a/none.m4s    | If-Match: *              | 404 |                                                           | Not Found |
GET  /a             |                          | 404 |                                                           | Not Found | 301 it knows folders
GET  /a/            |                          | 404 |                                                           | Not Found | 403 it knows folders
GET  /              |                          | 404 |                                                           | Not Found | 403 it knows folders
GET  /a/1.m4s/      |                          | 404 |                                                           | Not Found |
GET  /A/1.m4s       |                          | 404 |                                                           | Not Found |

# Ranges.
GET  /a/1.m4s       | Range: bytes=0-3         | 206 | Content-Range: bytes 0-3/10; Content-Length: 4; Content-Type: video/iso.segment; Accept-Ranges: {any} | 0123 |
GET  /a/1.m4s       | Range: bytes=0-0         | 206 | Content-Range: bytes 0-0/10; Content-Length: 1            | 0          |
GET  /a/1.m4s       | Range: bytes=9-9         | 206 | Content-Range: bytes 9-9/10; Content-Length: 1            | 9          |
GET  /a/1.m4s       | Range: bytes=4-          | 206 | Content-Range: bytes 4-9/10; Content-Length: 6            | 456789     |
GET  /a/1.m4s       | Range: bytes=0-          | 206 | Content-Range: bytes 0-9/10; Content-Length: 10           | 0123456789 |
GET  /a/1.m4s       | Range: bytes=-3          | 206 | Content-Range: bytes 7-9/10; Content-Length: 3            | 789        |
GET  /a/1.m4s       | Range: bytes=-10         | 206 | Content-Range: bytes 0-9/10; Content-Length: 10           | 0123456789 |
GET  /a/1.m4s       | Range: bytes=-99         | 206 | Content-Range: bytes 0-9/10; Content-Length: 10           | 0123456789 |
GET  /a/1.m4s       | Range: bytes=8-99        | 206 | Content-Range: bytes 8-9/10; Content-Length: 2            | 89         |
GET  /a/1.m4s       | Range: BYTES=0-3         | 206 | Content-Range: bytes 0-3/10                               | 0123       |
GET  /a/1.m4s       | Range: bytes=00-03       | 206 | Content-Range: bytes 0-3/10                               | 0123       |
GET  /a/1.m4s       | Range: bytes=10-         | 416 | Content-Range: bytes */10; ETag:; Cache-Control: no-store | Range Not Satisfiable |
GET  /a/1.m4s       | Range: bytes=10-20       | 416 | Content-Range: bytes */10                                 | Range Not Satisfiable |
GET  /a/1.m4s       | Range: bytes=-0          | 416 | Content-Range: bytes */10                                 | Range Not Satisfiable |
GET  /a/1.m4s       | Range: bytes=8-99999999999999999999 | 206 | Content-Range: bytes 8-9/10                    | 89                    | 416 it takes no number that large
GET  /a/1.m4s       | Range: bytes=99999999999999999999-  | 416 | Content-Range: bytes */10                      | Range Not Satisfiable |
GET  /a/1.m4s       | Range: bytes=0-9007199254740993     | 206 | Content-Range: bytes 0-9/10                    | 0123456789            |
GET  /a/1.m4s       | Range: bytes=9007199254740993-      | 416 | Content-Range: bytes */10                      | Range Not Satisfiable |
GET  /a/1.m4s       | Range: bytes=0-1,4-5     | 200 | Content-Range:; Content-Length: 10                        | 0123456789 | 206 it answers in several parts
GET  /a/1.m4s       | Range: bytes=0-1,90-99   | 200 | Content-Range:; Content-Length: 10                        | 0123456789 | 206 it answers with what of them there is
GET  /a/1.m4s       | Range: bytes=5-4         | 200 | Content-Range:                                            | 0123456789 | 416 both are right (RFC 9110 14.2)
GET  /a/1.m4s       | Range: bytes=a-b         | 200 | Content-Range:                                            | 0123456789 | 416 both are right
GET  /a/1.m4s       | Range: bytes=            | 200 | Content-Range:                                            | 0123456789 |
GET  /a/1.m4s       | Range: bytes=-           | 200 | Content-Range:                                            | 0123456789 | 416 both are right
GET  /a/1.m4s       | Range: bytes=0--3        | 200 | Content-Range:                                            | 0123456789 | 416 both are right
GET  /a/1.m4s       | Range: bytes             | 200 | Content-Range:                                            | 0123456789 |
GET  /a/1.m4s       | Range: items=0-1         | 200 | Content-Range:                                            | 0123456789 |
GET  /a/empty.m4s   | Range: bytes=0-          | 416 | Content-Range: bytes */0                                  | Range Not Satisfiable | 200 to it nothing is always whole
GET  /a/empty.m4s   | Range: bytes=-5          | 416 | Content-Range: bytes */0                                  | Range Not Satisfiable | 200 to it nothing is always whole
GET  /a/index.m3u8  | Range: bytes=0-5         | 200 | Content-Range:                                            | {signed}   | -
GET  /a/index.m3u8  | Range: bytes=999-        | 200 | Content-Range:                                            | {signed}   | -
GET  /p/index.m3u8  | unsigned; Range: bytes=0-6   | 206 | Content-Range: bytes 0-6/40                           | #EXTM3U    |
GET  /p/index.m3u8  | unsigned; Range: bytes=99-   | 416 | Content-Range: bytes */40                             | Range Not Satisfiable |

# A range of one version only.
GET  /a/1.m4s       | Range: bytes=0-3; If-Range: {etag}      | 206 | Content-Range: bytes 0-3/10                | 0123       |
GET  /a/1.m4s       | Range: bytes=0-3; If-Range: {modified}  | 206 | Content-Range: bytes 0-3/10                | 0123       |
GET  /a/1.m4s       | Range: bytes=0-3; If-Range: {weak}      | 200 | Content-Range:; Content-Length: 10         | 0123456789 |
GET  /a/1.m4s       | Range: bytes=0-3; If-Range: "other"     | 200 | Content-Range:; Content-Length: 10         | 0123456789 |
GET  /a/1.m4s       | Range: bytes=0-3; If-Range: {earlier}   | 200 | Content-Range:                             | 0123456789 |
GET  /a/1.m4s       | Range: bytes=0-3; If-Range: {later}     | 200 | Content-Range:                             | 0123456789 |
GET  /a/1.m4s       | Range: bytes=0-3; If-Range: *           | 200 | Content-Range:                             | 0123456789 |
GET  /a/1.m4s       | Range: bytes=0-3; If-Range: {etag}, "b" | 200 | Content-Range:                             | 0123456789 |
GET  /a/1.m4s       | Range: bytes=-3; If-Range: "other"      | 200 | Content-Range:                             | 0123456789 |
GET  /a/1.m4s       | Range: bytes=99-; If-Range: {etag}      | 416 | Content-Range: bytes */10                  | Range Not Satisfiable |
GET  /a/1.m4s       | Range: bytes=99-; If-Range: "other"     | 200 | Content-Range:                             | 0123456789 |
GET  /a/1.m4s       | If-Range: "other"                       | 200 | Content-Range:                             | 0123456789 |
GET  /a/index.m3u8  | Range: bytes=0-3; If-Range: {etag}      | 200 | Content-Range:                             | {signed}   | -

# What a viewer has already.
GET  /a/1.m4s       | If-None-Match: {etag}                   | 304 | ETag: {etag}; Last-Modified: {modified}; Cache-Control: {immutable}; Content-Type:; Content-Length: | |
GET  /a/1.m4s       | If-None-Match: {weak}                   | 304 |                                            |            |
GET  /a/1.m4s       | If-None-Match: "other", {etag}          | 304 |                                            |            |
GET  /a/1.m4s       | If-None-Match: "other",{weak} , "third" | 304 |                                            |            |
GET  /a/1.m4s       | If-None-Match: , {etag},                | 304 |                                            |            |
GET  /a/1.m4s       | If-None-Match: "a,b", {etag}            | 304 |                                            |            |
GET  /a/1.m4s       | If-None-Match: "", {etag}               | 304 |                                            |            |
GET  /a/1.m4s       | If-None-Match: *                        | 304 |                                            |            |
GET  /a/1.m4s       | If-None-Match: "*"                      | 200 |                                            | 0123456789 |
GET  /a/1.m4s       | If-None-Match: "*", "other"             | 200 |                                            | 0123456789 |
GET  /a/1.m4s       | If-None-Match: "other"                  | 200 |                                            | 0123456789 |
GET  /a/1.m4s       | If-None-Match: {bare}                   | 200 |                                            | 0123456789 |
GET  /a/1.m4s       | If-None-Match: "{bare}                  | 200 |                                            | 0123456789 |
GET  /a/1.m4s       | If-None-Match: ""                       | 200 |                                            | 0123456789 |
GET  /a/1.m4s       | If-None-Match: "                        | 200 |                                            | 0123456789 |
GET  /a/1.m4s       | If-Modified-Since: {modified}           | 304 | ETag: {etag}; Last-Modified: {modified}    |            |
GET  /a/1.m4s       | If-Modified-Since: {later}              | 304 |                                            |            |
GET  /a/1.m4s       | If-Modified-Since: {earlier}            | 200 |                                            | 0123456789 |
GET  /a/1.m4s       | If-Modified-Since: yesterday            | 200 |                                            | 0123456789 |
GET  /a/1.m4s       | If-None-Match: "other"; If-Modified-Since: {later}    | 200 |                              | 0123456789 |
GET  /a/1.m4s       | If-None-Match: {etag}; If-Modified-Since: {earlier}   | 304 |                              |            | 200 it wants both to hold (RFC 9110 13.1.3: only the first counts)
GET  /a/1.m4s       | If-None-Match: {etag}; Range: bytes=0-3  | 304 | Content-Range:                            |            |
GET  /a/1.m4s       | If-None-Match: {etag}; Range: bytes=99-  | 304 | Content-Range:                            |            |
GET  /a/1.m4s       | If-None-Match: "other"; Range: bytes=0-3 | 206 | Content-Range: bytes 0-3/10               | 0123       |
GET  /a/1.m4s       | If-None-Match: "other"; Range: bytes=99- | 416 | Content-Range: bytes */10                 | Range Not Satisfiable |
GET  /a/1.m4s       | If-None-Match: "*"; Range: bytes=0-3     | 206 | Content-Range: bytes 0-3/10               | 0123       |
GET  /a/1.m4s       | If-None-Match: {etag}; Range: bytes=0-3; If-Range: "other" | 304 |                         |            |
GET  /a/1.m4s       | If-Modified-Since: {modified}; Range: bytes=0-3 | 304 | Content-Range:                     |            |
GET  /a/1.m4s       | If-Modified-Since: {modified}; Range: bytes=99- | 304 | Content-Range:                     |            |
GET  /a/empty.m4s   | If-None-Match: {etag}                   | 304 |                                            |            |
GET  /a/1.key       | If-None-Match: {etag}                   | 304 | Cache-Control: private                     |            |
GET  /a/index.m3u8  | If-None-Match: {etag}                   | 304 | ETag: {etag}; Cache-Control: private, no-cache; Vary: Accept-Encoding; Last-Modified:; Content-Type:; Content-Length: | | -
GET  /a/index.m3u8  | If-None-Match: {weak}                   | 304 | ETag: {etag}                               |            | -
GET  /a/index.m3u8  | If-None-Match: "other", {weak}, "third" | 304 | ETag: {etag}                               |            | -
GET  /a/index.m3u8  | If-None-Match: *                        | 304 | ETag: {etag}                               |            | -
GET  /a/index.m3u8  | If-None-Match: "other"                  | 200 |                                            | {signed}   | -
GET  /a/index.m3u8  | If-None-Match: {etag}; Range: bytes=0-3 | 304 | Content-Range:                             |            | -
GET  /a/index.m3u8  | If-Modified-Since: {later}              | 200 |                                            | {signed}   | -
GET  /p/index.m3u8  | unsigned; If-None-Match: {etag}         | 304 | ETag: {etag}; Last-Modified: {modified}    |            |
GET  /p/index.m3u8  | unsigned; If-Modified-Since: {modified} | 304 |                                            |            |

# The version that a viewer wants, or none.
GET  /a/1.m4s       | If-Match: {etag}                        | 200 |                                            | 0123456789 |
GET  /a/1.m4s       | If-Match: *                             | 200 |                                            | 0123456789 |
GET  /a/1.m4s       | If-Match: "other", {etag}               | 200 |                                            | 0123456789 |
GET  /a/1.m4s       | If-Match: "other"                       | 412 | ETag:; Cache-Control: no-store             | Precondition Failed |
GET  /a/1.m4s       | If-Match: {weak}                        | 412 |                                            | Precondition Failed |
GET  /a/1.m4s       | If-Match: "other"; Range: bytes=0-3     | 412 | Content-Range:                             | Precondition Failed |
GET  /a/1.m4s       | If-Match: "other"; Range: bytes=99-     | 412 | Content-Range:                             | Precondition Failed |
GET  /a/1.m4s       | If-Match: {etag}; Range: bytes=0-3      | 206 | Content-Range: bytes 0-3/10                | 0123       |
GET  /a/1.m4s       | If-Match: "other"; If-None-Match: {etag} | 412 |                                           | Precondition Failed |
GET  /a/1.m4s       | If-Match: {etag}; If-None-Match: {etag} | 304 |                                            |            |
GET  /a/1.m4s       | If-Unmodified-Since: {modified}         | 200 |                                            | 0123456789 |
GET  /a/1.m4s       | If-Unmodified-Since: {later}            | 200 |                                            | 0123456789 |
GET  /a/1.m4s       | If-Unmodified-Since: {earlier}          | 412 |                                            | Precondition Failed |
GET  /a/1.m4s       | If-Unmodified-Since: yesterday          | 200 |                                            | 0123456789 | 412 it takes what is no date for one (RFC 9110 13.1.4)
GET  /a/1.m4s       | If-Unmodified-Since: Sunday, 06-Nov-94 08:49:37 GMT | 412 |                                | Precondition Failed |
GET  /a/1.m4s       | If-Unmodified-Since: Sun Nov  6 08:49:37 1994       | 412 |                                | Precondition Failed |
GET  /a/1.m4s       | If-Unmodified-Since: {earlier}; If-None-Match: {etag} | 412 |                              | Precondition Failed |
GET  /a/1.m4s       | If-Match: {etag}; If-Unmodified-Since: {earlier}      | 200 |                              | 0123456789 | 412 it wants both to hold (RFC 9110 13.1.4: only the first counts)
GET  /a/index.m3u8  | If-Match: {etag}                        | 200 |                                            | {signed}   | -
GET  /a/index.m3u8  | If-Match: "other"                       | 412 |                                            | Precondition Failed | -
GET  /a/index.m3u8  | If-Match: "other"; If-None-Match: {etag} | 412 |                                           | Precondition Failed | -

# Without authority, and without a place to take it.
GET  /a/1.m4s       | unsigned                                | 403 | Content-Type: text/xml; Cache-Control: no-store; ETag:; Last-Modified:; Content-Range: | * | -
GET  /a/1.m4s       | unsigned; If-None-Match: *              | 403 |                                            | *          | -
GET  /a/1.m4s       | unsigned; Range: bytes=99-              | 403 | Content-Range:                             | *          | -
GET  /a/none.m4s    | unsigned                                | 403 |                                            | *          | -
GET  /a%2F1.m4s     |                                         | 400 | Cache-Control: no-store                    | Bad Request | 200 a slash is a slash to it
OPTIONS /a/1.m4s    | unsigned; Origin: https://school.example; Access-Control-Request-Method: GET; Access-Control-Request-Headers: range | 204 | Access-Control-Allow-Methods: GET, HEAD, OPTIONS; Access-Control-Allow-Headers: range; Access-Control-Max-Age: 86400 | | -
OPTIONS /a/none     | unsigned                                | 204 | Access-Control-Allow-Methods: GET, HEAD, OPTIONS |      | -
OPTIONS /a/1.m4s    | Range: bytes=99-; If-Match: "other"     | 204 | Content-Range:                             |            | -
POST /a/1.m4s       |                                         | 405 | Allow: GET, HEAD, OPTIONS; Cache-Control: no-store | Method Not Allowed |
PUT  /a/1.m4s       | unsigned                                | 405 | Allow: GET, HEAD, OPTIONS                  | Method Not Allowed |
DELETE /a/1.m4s     |                                         | 405 | Allow: GET, HEAD, OPTIONS                  | Method Not Allowed |

# Names as they come.
GET  /odd/a%20b.m4s                            |  | 200 | | a b.m4s        |
GET  /odd/%C3%A9t%C3%A9.m4s                    |  | 200 | | été.m4s        |
GET  /odd/%e6%97%a5%E6%9C%AC.m4s               |  | 200 | | 日本.m4s       |
GET  /odd/a+b.m4s                              |  | 200 | | a+b.m4s        |
GET  /odd/a%2Bb.m4s                            |  | 200 | | a+b.m4s        |
GET  /odd/a%2520b.m4s                          |  | 200 | | a%20b.m4s      |
GET  /odd/100%25.m4s                           |  | 200 | | 100%.m4s       |
GET  /odd/%22'.m4s                             |  | 200 | | "'.m4s         |
GET  /odd/(%5B%7B%3C%3E%7D%5D)!*$.m4s          |  | 200 | | ([{<>}])!*$.m4s |
GET  /odd/a&b=c;d,e:f@g~h.m4s                  |  | 200 | | a&b=c;d,e:f@g~h.m4s |
GET  /odd/what%3Fx%23y.m4s                     |  | 200 | | what?x#y.m4s   |
GET  /odd/%5E%60%7C.m4s                        |  | 200 | | ^`|.m4s        |
GET  /odd/....m4s                              |  | 200 | | ....m4s        |
GET  /odd/line%0Abreak%09.m4s                  |  | 200 | | line break     |
GET  /odd/%F0%9F%8E%AC.m4s                     |  | 200 | | 🎬.m4s         |
GET  /{1024 bytes}                             |  | 200 | | long           |
GET  /{1024 bytes}x                            |  | 400 | | Bad Request    | 404 it knows no limit
GET  /odd/a%2520b.m4s                          | Range: bytes=0-0 | 206 | Content-Range: bytes 0-0/9 | a |
GET  /odd/%ff.m4s                              |  | 400 | | Bad Request    | 404 to it a name is bytes
GET  /odd/a%00.m4s                             |  | 400 | | Bad Request    |
GET  /odd/a%5Cb.m4s                            |  | 400 | | Bad Request    | 404 a backslash is a letter to it
"#;

const IMMUTABLE: &str = "private, max-age=31536000, immutable";
const PLAYLIST: &str = "#EXTM3U\n#EXTINF:6,\n1.m4s\n#EXT-X-ENDLIST\n";
const WORDS: &str = "WEBVTT\n\n00:00.000 --> 00:05.000\nLook at this!\n";

/// As many bytes as a key can have, in segments as long as a file's name can be.
static LONG: LazyLock<String> =
    LazyLock::new(|| format!("{}{}x.m4s", format!("{}/", "k".repeat(200)).repeat(5), "é".repeat(7)));

struct Row {
    line: &'static str,
    method: Method,
    path: String,
    is_signed: bool,
    sent: Vec<(&'static str, &'static str)>,
    status: u16,
    says: Vec<(&'static str, &'static str)>,
    body: &'static str,
    nginx: &'static str,
}

impl Row {
    fn read(line: &'static str) -> Self {
        // There is a `|` in a body.
        let columns: Vec<_> = line.splitn(5, " |").map(str::trim).collect();
        let [request, sent, status, says, rest] = columns[..] else { panic!("{line}") };
        let (body, nginx) = rest.trim_start().rsplit_once('|').unwrap();
        let (method, path) = request.split_once(' ').unwrap();
        let pairs = |list: &'static str| {
            let items = list.split("; ").filter(|item| !item.is_empty() && *item != "unsigned");
            items
                .map(|item| item.split_once(':').unwrap())
                .map(|(name, value)| (name, value.trim()))
                .collect()
        };
        Self {
            line,
            method: method.parse().unwrap(),
            path: path.trim().replace("{1024 bytes}", &LONG.replace('é', "%C3%A9")),
            is_signed: !sent.starts_with("unsigned"),
            sent: pairs(sent),
            status: status.parse().unwrap(),
            says: pairs(says.trim_end_matches(';')),
            body: body.trim(),
            nginx: nginx.trim(),
        }
    }
}

fn table() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(Row::read).collect()
}

/// The files that the table is about.
fn files() -> PathBuf {
    let odd = [
        "a b",
        "été",
        "日本",
        "a+b",
        "a%20b",
        "100%",
        "\"'",
        "([{<>}])!*$",
        "a&b=c;d,e:f@g~h",
        "what?x#y",
        "^`|",
        "...",
        "🎬",
    ];
    let odd: Vec<_> = odd.iter().map(|name| (format!("odd/{name}.m4s"), format!("{name}.m4s"))).collect();
    let mut objects = vec![
        ("a/1.m4s", "0123456789"),
        ("a/clip.mp4", "mp4"),
        ("a/clip.ts", "ts"),
        ("a/clip.aac", "aac"),
        ("a/poster.jpg", "jpg"),
        ("a/1.key", "16 octets, no more"),
        ("a/notes.xyz", "notes"),
        ("a/empty.m4s", ""),
        ("odd/line\nbreak\t.m4s", "line break"),
        (&LONG, "long"),
    ];
    for (one, other, text) in [
        ("a/index.m3u8", "p/index.m3u8", PLAYLIST),
        ("a/words.vtt", "p/words.vtt", WORDS),
        ("a/asset.json", "p/asset.json", "{\"state\":\"ready\"}"),
    ] {
        objects.extend([(one, text), (other, text)]);
    }
    objects.extend(odd.iter().map(|(key, text)| (&**key, &**text)));
    let objects: Vec<_> = objects.iter().map(|(key, text)| (*key, text.as_bytes())).collect();
    filled(&objects)
}

/// The settings of a gate that keeps nothing, or everything that may be kept.
fn settings(is_caching: bool) -> Value {
    let mut settings = trusting();
    settings["PUBLIC_PATHS"] = "/p/*".into();
    for name in ["SEGMENT_CACHE_SECONDS", "PLAYLIST_CACHE_SECONDS"] {
        settings[name] = if is_caching { "3600" } else { "0" }.into();
    }
    settings
}

/// Whoever is asked, and what they said of each path when asked for it plainly.
struct Asked<'a> {
    gate: &'a dyn Gate,
    query: String,
    plain: HashMap<String, Response<Vec<u8>>>,
}

impl<'a> Asked<'a> {
    fn of(gate: &'a dyn Gate) -> Self {
        Self { gate, query: gate.open("/*"), plain: HashMap::new() }
    }

    fn target(&self, row: &Row) -> String {
        if row.is_signed { format!("{}?{}", row.path, self.query) } else { row.path.clone() }
    }

    fn plain(&mut self, row: &Row) -> &Response<Vec<u8>> {
        let target = self.target(row);
        let gate = self.gate;
        self.plain.entry(target.clone()).or_insert_with(|| gate.get(&target))
    }

    /// What is sent, or expected, with what was said of the same path in it.
    fn fill(&mut self, row: &Row, text: &str) -> String {
        if !text.contains('{') {
            return text.to_owned();
        }
        let signed = PLAYLIST.replace("1.m4s", &format!("1.m4s?{}", self.query));
        let plain = self.plain(row);
        let (etag, modified) = (header(plain, "etag"), header(plain, "last-modified"));
        let time = parse_http_date(modified).unwrap_or_else(|_| SystemTime::now());
        let hour = Duration::from_hours(1);
        text.replace("{etag}", etag)
            .replace("{weak}", &format!("W/{etag}"))
            .replace("{bare}", etag.trim_matches('"'))
            .replace("{modified}", modified)
            .replace("{earlier}", &fmt_http_date(time - hour))
            .replace("{later}", &fmt_http_date(time + hour))
            .replace("{immutable}", IMMUTABLE)
            .replace("{signed}", &signed)
            .replace("{as stored}", PLAYLIST)
            .replace("{words}", WORDS)
    }

    fn sent(&mut self, row: &Row) -> Vec<(&'static str, String)> {
        row.sent.iter().map(|(name, value)| (*name, self.fill(row, value))).collect()
    }

    fn ask(&mut self, row: &Row, method: Method, without: &[&str]) -> Response<Vec<u8>> {
        let sent = self.sent(row);
        let sent: Vec<_> = sent.iter().map(|(name, value)| (*name, &**value)).collect();
        let sent: Vec<_> = sent.into_iter().filter(|(name, _)| !without.contains(name)).collect();
        self.gate.ask(method, &self.target(row), &sent)
    }
}

/// What is wrong with what a gate answers to the table, row by row.
fn problems(gate: &dyn Gate) -> String {
    let mut asked = Asked::of(gate);
    let mut problems = String::new();
    for row in table() {
        let answer = asked.ask(&row, row.method.clone(), &[]);
        let mut wrong: Vec<String> = Vec::new();
        if answer.status().as_u16() != row.status {
            wrong.push(format!("it is {}", answer.status()));
        }
        for (name, value) in &row.says {
            let (expected, said) = (asked.fill(&row, value), header(&answer, name));
            if *value != "{any}" && said != expected {
                wrong.push(format!("{name}: {said}, not {expected}"));
            }
        }
        let (body, expected) = (String::from_utf8_lossy(answer.body()), asked.fill(&row, row.body));
        if row.body != "*" && body != expected {
            wrong.push(format!("the body is {body:?}, not {expected:?}"));
        }
        wrong.extend(amiss(&row, &answer));
        let plain = asked.plain(&row);
        if matches!(row.status, 200 | 206 | 304) {
            for name in ["etag", "last-modified", "cache-control", "vary"] {
                if header(plain, name) != header(&answer, name) {
                    wrong.push(format!("another {name} than of all of it: {}", header(&answer, name)));
                }
            }
            if !header(&answer, "etag").starts_with('"') {
                wrong.push("it has no strong tag".to_owned());
            }
        }
        if row.method == Method::GET {
            wrong.extend(other_than_head(&mut asked, &row, &answer));
        }
        for wrong in wrong {
            let _ = writeln!(problems, "{}\n    {wrong}", row.line);
        }
    }
    problems
}

/// What is wrong with any answer that has it.
fn amiss(row: &Row, answer: &Response<Vec<u8>>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expect = |name: &str, is_right: &dyn Fn(&str) -> bool| {
        let values: Vec<_> =
            answer.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        if !is_right(&values.join(" and ")) {
            wrong.push(format!("{name}: {}", values.join(" and ")));
        }
    };
    expect("access-control-allow-origin", &|said| said == "*");
    for exposed in ["Accept-Ranges", "Age", "Content-Length", "Content-Range", "Date", "ETag"] {
        expect("access-control-expose-headers", &|said| said.split(", ").any(|name| name == exposed));
    }
    expect("access-control-allow-credentials", &str::is_empty);
    expect("x-content-type-options", &|said| said == "nosniff");
    expect("referrer-policy", &|said| said == "no-referrer");
    for never in ["set-cookie", "location", "x-amz-request-id", "x-reelgate-object", "cf-cache-status"] {
        expect(never, &str::is_empty);
    }
    // Of what is kept, since when it is: for this run at the most.
    expect("age", &|said| said.is_empty() || said.parse::<u32>().is_ok_and(|age| age < 60));
    expect("cache-control", &|said| {
        row.status == 204 || if row.status < 400 { said.starts_with("private") } else { said == "no-store" }
    });
    let length = answer.body().len().to_string();
    match row.status {
        204 | 304 => expect("content-length", &str::is_empty),
        _ => expect("content-length", &|said| said == length),
    }
    expect("content-range", &|said| said.is_empty() != matches!(row.status, 206 | 416));
    wrong
}

/// How the answer to HEAD is another than that to GET, without its body. Ranges are GET's only.
fn other_than_head(asked: &mut Asked, row: &Row, answer: &Response<Vec<u8>>) -> Vec<String> {
    let mut wrong = Vec::new();
    let has_range = row.sent.iter().any(|(name, _)| *name == "Range");
    let whole = has_range.then(|| asked.ask(row, Method::GET, &["Range"]));
    let get = whole.as_ref().unwrap_or(answer);
    let said = |answer: &Response<Vec<u8>>| {
        let of_its_own = ["age", "date", "x-origin-asked"];
        let headers = answer.headers().iter().filter(|(name, _)| !of_its_own.contains(&name.as_str()));
        let headers: BTreeMap<_, _> =
            headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        (answer.status(), headers)
    };
    let head = asked.ask(row, Method::HEAD, &[]);
    let (of_head, of_get) = (said(&head), said(get));
    if of_head != of_get {
        wrong.push(format!("HEAD says\n    {of_head:?}, and GET\n    {of_get:?}"));
    }
    if !head.body().is_empty() {
        wrong.push("HEAD has a body".to_owned());
    }
    wrong
}

fn assert_conforms(gates: &[(&str, &dyn Gate)]) {
    let mut all = String::new();
    thread::scope(|scope| {
        let asked: Vec<_> = gates.iter().map(|(_, gate)| scope.spawn(|| problems(*gate))).collect();
        for ((name, _), problems) in gates.iter().zip(asked) {
            let problems = problems.join().unwrap();
            if !problems.is_empty() {
                let _ = writeln!(all, "{name}:\n{problems}");
            }
        }
    });
    assert!(all.is_empty(), "{all}");
}

/// A folder natively, R2, and S3.
fn gates(is_caching: bool) -> [Box<dyn Gate>; 3] {
    let (folder, settings) = (files(), settings(is_caching));
    thread::scope(|scope| {
        let r2 = scope.spawn(|| Worker::with(&folder, &settings));
        let s3 = OverS3::with(&folder, &settings);
        [
            Box::new(Native::with(&folder, &settings)) as Box<dyn Gate>,
            Box::new(r2.join().unwrap()),
            Box::new(s3),
        ]
    })
}

fn named(gates: &[Box<dyn Gate>; 3]) -> [(&str, &dyn Gate); 3] {
    let [native, r2, s3] = gates;
    [("a folder", &**native), ("R2", &**r2), ("S3", &**s3)]
}

#[test]
fn what_http_says_holds_over_every_store() {
    assert_conforms(&named(&gates(false)));
}

/// The first time round it is filled, by what fills it; the second time it has all that it may have.
#[test]
fn a_cache_changes_nothing() {
    let gates = gates(true);
    for _ in 0..2 {
        assert_conforms(&named(&gates));
    }
}

#[test]
fn a_document_has_a_tag_of_its_own_for_whatever_is_written_into_it() {
    let folder = files();
    let native = Native::with(&folder, &settings(false));
    let r2 = Worker::with(&folder, &settings(true));
    for gate in [&native as &dyn Gate, &r2] {
        let (one, other) = (gate.open("/*"), gate.open("/a/*"));
        let ask = |query: &str, headers: &[(&str, &str)]| {
            gate.ask(Method::GET, &format!("/a/index.m3u8?{query}"), headers)
        };
        let gzip = ("Accept-Encoding", "gzip");
        let stored = header(&gate.get("/p/index.m3u8"), "etag").to_owned();
        let answers = [ask(&one, &[]), ask(&other, &[]), ask(&one, &[gzip]), ask(&other, &[gzip])];
        let mut tags: Vec<_> = answers.iter().map(|answer| header(answer, "etag").to_owned()).collect();
        assert_eq!(header(&answers[2], "content-encoding"), "gzip");
        for (query, tag, more) in
            [(&one, &tags[0], None), (&other, &tags[1], None), (&one, &tags[2], Some(gzip))]
        {
            // A cache on the way, which packs it, makes the tag a weak one.
            for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}")] {
                let sent: Vec<_> = [("If-None-Match", &*known)].into_iter().chain(more).collect();
                let answer = ask(query, &sent);
                assert_eq!((answer.status().as_u16(), answer.body().len()), (304, 0), "{known}");
                assert_eq!(header(&answer, "etag"), tag);
                assert_eq!(header(&answer, "cache-control"), "private, no-cache");
                assert_eq!(header(&answer, "vary"), "Accept-Encoding");
            }
        }
        for (query, known) in [(&other, &tags[0]), (&one, &tags[1]), (&one, &tags[2]), (&one, &stored)] {
            assert_eq!(ask(query, &[("If-None-Match", known)]).status().as_u16(), 200, "{known}");
        }
        tags.push(stored);
        assert!(tags.iter().all(|tag| tag.starts_with('"') && tag.ends_with('"')), "{tags:?}");
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), 5, "{tags:?}");
    }
}

/// What is known already is not sent by the origin either.
#[test]
fn a_document_that_has_not_changed_is_asked_for_by_its_own_tag() {
    let folder = filled(&[("a/index.m3u8", PLAYLIST.as_bytes()), ("a/1.m4s", b"0123456789")]);
    let gate = OverS3::with(&folder, &settings(false));
    let query = gate.open("/a/*");
    let ask = |name: &str, known: &str| {
        gate.s3.forget();
        let answer = gate.ask(Method::GET, &format!("/a/{name}?{query}"), &[("If-None-Match", known)]);
        let asked = gate.s3.asked();
        let [asked] = &asked[..] else { panic!("it was asked {asked:?}") };
        let (known, status) = (asked["ifNoneMatch"].as_str().unwrap_or_default(), &asked["status"]);
        (answer, known.to_owned(), status.as_u64().unwrap())
    };
    // Their MD5s, by md5sum.
    for (name, stored) in [
        ("index.m3u8", "\"aab52ed3bcd337ae44ad329e828bee36\""),
        ("1.m4s", "\"781e5e245d69b566979b86e28d23f2c7\""),
    ] {
        let (first, known, status) = ask(name, "\"something-else\"");
        let (tag, is_document) = (header(&first, "etag").to_owned(), name == "index.m3u8");
        assert_eq!((first.status().as_u16(), status), (200, 200));
        assert_eq!(known, if is_document { "" } else { "\"something-else\"" }, "{name}");

        let (again, known, status) = ask(name, &tag);
        assert_eq!((again.status().as_u16(), status, &*known), (304, 304, stored), "{name}");
        assert_eq!(header(&again, "etag"), tag);

        gate.s3.put(&format!("a/{name}"), format!("{PLAYLIST}# another").as_bytes());
        let (changed, known, status) = ask(name, &tag);
        assert_eq!((changed.status().as_u16(), status, &*known), (200, 200, stored), "{name}");
        assert!(changed.body().ends_with(b"# another"));
        assert_ne!(header(&changed, "etag"), tag);
    }
}

/// To a bucket all of this is a name like any other; there is no folder to leave, and no host to go to.
#[test]
fn a_name_leads_nowhere_else() {
    let objects = json!({ "objects": {
        "a//1.m4s": "a//1.m4s",
        "/1.m4s": "/1.m4s",
        "//1.m4s": "//1.m4s",
        "/evil.example/1.m4s": "/evil.example/1.m4s",
        "media/1.m4s": "media/1.m4s",
        "http://evil.example/1.m4s": "http://evil.example/1.m4s",
        "a?list-type=2": "a?list-type=2",
    } });
    let s3 = S3::over(&filled(&[("a/1.m4s", b"0123456789")]), &objects);
    let gate = OverS3::before(s3, &settings(false));
    let query = gate.open("*");
    let get = |path: &str| {
        let answer = gate.get(&format!("{path}?{query}"));
        (answer.status().as_u16(), String::from_utf8(answer.into_body()).unwrap())
    };
    for name in objects["objects"].as_object().unwrap().keys() {
        assert_eq!(get(&format!("/{}", name.replace('?', "%3F"))), (200, name.clone()));
    }
    gate.s3.forget();
    for path in ["/", "/.", "/a/.."] {
        assert_eq!(get(path).0, 404, "{path}");
    }
    assert_eq!(
        gate.s3.asked(),
        Vec::<Value>::new(),
        "an empty name is not asked for, it is the bucket's own"
    );
    for path in [
        "/other/secret.m4s",
        "//other/secret.m4s",
        "/../other/secret.m4s",
        "/a/../../other/secret.m4s",
        "/%2e%2e/other/secret.m4s",
        "/a/%2E%2E/%2e%2e/other/secret.m4s",
        "/..%2Fother/secret.m4s",
        "/..%5Cother/secret.m4s",
        "/%252e%252e/other/secret.m4s",
        "/;/../other/secret.m4s",
        "/a//",
        "/a",
        "/a/",
        "/a%3Flist-type=3",
        "/%3Flist-type=2",
        "/%23",
        "/%20",
    ] {
        let (status, body) = get(path);
        assert!(
            matches!((status, &*body), (404, "Not Found") | (400, "Bad Request")),
            "{path}: {status} {body}"
        );
    }
    for asked in gate.s3.asked() {
        assert_eq!(asked["bucket"], "media", "{asked}");
    }
}

/// nginx over a folder. It ends with its owner.
struct Nginx {
    child: Child,
    url: String,
    agent: ureq::Agent,
    _own: TempDir,
}

impl Nginx {
    fn over(folder: &Path) -> Self {
        // Somebody else may be quicker to take the port.
        (0..5).find_map(|_| Self::at(free_port(), folder)).expect("nginx serves")
    }

    fn at(port: u16, folder: &Path) -> Option<Self> {
        let own = tempfile::tempdir().unwrap();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {what};\n"))
            .concat();
        let folder = folder.to_str().unwrap();
        let settings = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr crit;
            events {{}}
            http {{
                access_log off; {temporary}
                default_type application/octet-stream;
                types {{
                    video/iso.segment m4s; video/mp4 mp4; video/mp2t ts; audio/aac aac; image/jpeg jpg;
                    application/vnd.apple.mpegurl m3u8; text/vtt vtt; application/json json;
                }}
                # Else it wants the very date that it has said.
                if_modified_since before;
                server {{ listen 127.0.0.1:{port}; root {folder}; }}
            }}"
        );
        std::fs::write(own.path().join("nginx.conf"), settings).unwrap();
        let mut nginx = tool("nginx");
        nginx.arg("-p").arg(own.path()).args(["-c", "nginx.conf", "-e", "stderr"]).stderr(Stdio::null());
        let mut child = nginx.spawn().expect("`make setup` brings nginx");
        let (url, agent) = (format!("http://127.0.0.1:{port}"), agent());
        // Whoever took the port answers too.
        let is_up = || {
            let answer = agent.get(&url).call();
            answer.is_ok_and(|answer| {
                answer
                    .headers()
                    .get("server")
                    .is_some_and(|server| server.to_str().is_ok_and(|server| server.starts_with("nginx")))
            })
        };
        for _ in 0..100 {
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            if is_up() {
                return Some(Self { child, url, agent, _own: own });
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = (child.kill(), child.wait());
        None
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Gate for Nginx {
    fn url(&self) -> &str {
        &self.url
    }

    fn ask(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> Response<Vec<u8>> {
        send(&self.agent, method, &format!("{}{target}", self.url), headers).0
    }

    fn log(&self, _: &Response<Vec<u8>>, _: &str) -> String {
        String::new()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nginx_answers_the_same() {
    let folder = files();
    let (nginx, gate) = (Nginx::over(&folder), Native::with(&folder, &settings(false)));
    let (mut nginx, mut ours) = (Asked::of(&nginx), Asked::of(&gate));
    let mut problems = String::new();
    for row in table().into_iter().filter(|row| !row.nginx.starts_with('-')) {
        let (theirs, ours) =
            (nginx.ask(&row, row.method.clone(), &[]), ours.ask(&row, row.method.clone(), &[]));
        let differs = row.nginx.split_once(' ').map(|(status, _)| status.parse().unwrap());
        let mut wrong = Vec::new();
        let status = theirs.status().as_u16();
        if status != differs.unwrap_or(row.status) {
            wrong.push(format!("nginx says {status}"));
        }
        if differs.is_none() {
            // Of an error nginx has its own words. The tags are of one make.
            let names: &[_] = match status {
                400.. => &["content-range"],
                _ => &["content-range", "content-length", "content-type", "etag", "last-modified"],
            };
            for name in names {
                let (theirs, ours) = (header(&theirs, name), header(&ours, name));
                if theirs != ours {
                    wrong.push(format!("{name}: nginx says {theirs:?}, and we {ours:?}"));
                }
            }
            if status < 400 && theirs.body() != ours.body() {
                wrong.push(format!("nginx sends {:?}", String::from_utf8_lossy(theirs.body())));
            }
        }
        for wrong in wrong {
            let _ = writeln!(problems, "{}\n    {wrong}", row.line);
        }
    }
    assert!(problems.is_empty(), "{problems}");
}
