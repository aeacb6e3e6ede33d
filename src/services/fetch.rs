//! Fetches a page as Markdown through the service (docs/protocol.md#fetch).
//!
//! The service always fetches; nothing is downloaded from this machine instead. So addresses of the local network are out of
//! reach, no matter who names them.

use serde::Deserialize;
use serde_json::json;
use url::{ParseError, Url};

use super::tool_request::{Reply, Service};
use super::truncate::{Limit, Outcome};
use crate::blocking::in_background;
use crate::error::{Error, ErrorKind, Result, clip};

/// Longest address that is sent, in bytes.
const MAX_URL: usize = 16 << 10;

/// Arguments of a fetch.
#[derive(Debug, Deserialize)]
pub struct Fetch {
    url: String,
}

impl Fetch {
    pub(super) fn check(&self) -> Result<()> {
        let text = self.url.trim();
        let complaint = match Url::parse(text) {
            _ if text.len() > MAX_URL => {
                format!("the URL is {} bytes long, at most {MAX_URL} are allowed", text.len())
            }
            // The service translates names with other letters than ASCII; without Unicode tables they are not judged here.
            Err(ParseError::IdnaError) if is_web_address(text) => return Ok(()),
            Err(error) => {
                format!("{:?} is not a URL ({error}); give the whole address, beginning with https://", clip(text, 200))
            }
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                format!("only http:// and https:// can be fetched, not {}:", url.scheme())
            }
            Ok(_) => return Ok(()),
        };
        Err(Error::new(ErrorKind::BadRequest, complaint))
    }

    pub(super) async fn run(&self, service: &Service, limit: Option<Limit>) -> Result<Outcome> {
        let body = json!({ "url": self.url.trim() });
        let reply = service.post(&service.endpoint().fetch(), &body, "text/markdown").await?;
        in_background(move || Ok(outcome(&reply, limit.as_ref()))).await
    }
}

fn is_web_address(text: &str) -> bool {
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web))
}

fn outcome(reply: &Reply, limit: Option<&Limit>) -> Outcome {
    let (text, damaged) = reply.text();
    let mut outcome = Outcome::default();
    if text.trim().is_empty() {
        outcome.notes.push("[The page has no text.]".to_owned());
    }
    outcome.set_text(text, limit, "moonshot_fetch", "md");
    if damaged {
        outcome.notes.push("[Parts of the page are not UTF-8 and are shown as \u{fffd}.]".to_owned());
    }
    if reply.content_type.starts_with("text/html") {
        outcome.notes.push("[The service returned HTML instead of Markdown.]".to_owned());
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetched(bytes: &'static [u8], content_type: &str) -> Outcome {
        outcome(&Reply { bytes: bytes.into(), content_type: content_type.into(), request_id: None }, None)
    }

    #[test]
    fn only_web_addresses_are_sent() {
        let check = |url: &str| Fetch { url: url.to_owned() }.check().map_err(|error| error.message);
        for url in
            ["https://example.com/a?b#c", " http://localhost:8080/ ", "http://10.0.0.1", "https://例子.测试/路径"]
        {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for (url, complaint) in [
            ("", "not a URL"),
            ("example.com", "beginning with https://"),
            ("file:///etc/passwd", "not file:"),
            ("javascript:alert(1)", "not javascript:"),
            ("data:text/plain,x", "not data:"),
            ("https://", "not a URL"),
        ] {
            let message = check(url).unwrap_err();
            assert!(message.contains(complaint), "{url}: {message}");
        }
        assert!(check(&format!("https://example.com/{}", "x".repeat(MAX_URL))).unwrap_err().contains("bytes long"));
    }

    #[test]
    fn page_is_returned_unchanged() {
        let page = fetched("# 标题\r\n\r\n<b>text</b>\n".as_bytes(), "text/markdown; charset=utf-8");
        assert_eq!(page.text, "# 标题\r\n\r\n<b>text</b>\n");
        assert!(page.notes.is_empty());
        assert_eq!(fetched(b"\xef\xbb\xbfx", "").text, "x");
    }

    #[test]
    fn page_with_a_defect_has_a_note() {
        assert_eq!(fetched(b" \n", "text/markdown").notes, ["[The page has no text.]"]);
        let wrong = fetched(b"caf\xe9", "text/markdown; charset=utf-8");
        assert_eq!(wrong.text, "caf\u{fffd}");
        assert_eq!(wrong.notes.len(), 1);
        assert_eq!(fetched(b"<html>", "text/html").notes, ["[The service returned HTML instead of Markdown.]"]);
    }
}
