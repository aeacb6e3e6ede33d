//! Splits bytes into server-sent events, incrementally, and copies only what spans two chunks.
//!
//! Follows the WHATWG rules (LF, CRLF and CR line ends, comments, several `data:` lines) and, like the service's clients, accepts
//! a last event without its blank line or newline (docs/protocol.md#event-stream-format). Works on bytes, so a UTF-8 sequence may
//! be split anywhere.

use memchr::{memchr, memchr2};

use crate::error::{Error, Result};

/// Longest event that is accepted, in bytes, so that a stream without line ends cannot fill the memory.
pub const MAX_EVENT_BYTES: usize = 16 << 20;

/// Capacity that a buffer keeps for the next event, in bytes: one huge event must not pin its memory for the rest of the stream.
const KEPT: usize = 64 << 10;

/// One event of the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A dispatched event: its `event:` name (often empty) and the joined `data:` lines.
    Data {
        /// Value of the last `event:` line, or empty.
        name: &'a str,
        /// Joined with `\n`, still raw bytes.
        data: &'a [u8],
    },
    /// A comment line. It proves that the connection is alive, not that the model is at work.
    Comment,
}

/// Where the data of the current event lies.
#[derive(Debug, Clone, Copy)]
enum Pending {
    None,
    /// One line, still inside the chunk that is being parsed.
    InChunk(usize, usize),
    /// Copied to `SseDecoder::data`.
    Copied,
}

/// Incremental decoder; feed it chunks in order, then call [`SseDecoder::finish`].
#[derive(Debug, Default)]
pub struct SseDecoder {
    /// A line whose end has not arrived yet.
    line: Vec<u8>,
    /// Data lines of the current event, where they do not lie in one chunk.
    data: Vec<u8>,
    has_data: bool,
    name: String,
    /// The last chunk ended in CR: a following LF belongs to it.
    skip_lf: bool,
}

/// Removes a BOM. Streams that were joined from several have one in the middle as well.
fn without_bom(line: &[u8]) -> &[u8] {
    line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line)
}

impl SseDecoder {
    /// Parses `chunk` and reports every event it completes.
    pub fn feed(&mut self, chunk: &[u8], on_event: &mut impl FnMut(Event<'_>) -> Result<()>) -> Result<()> {
        let mut at = 0;
        let mut pending = if self.has_data { Pending::Copied } else { Pending::None };
        while at < chunk.len() {
            if std::mem::take(&mut self.skip_lf) && chunk[at] == b'\n' {
                at += 1;
                continue;
            }
            let Some(length) = memchr2(b'\n', b'\r', &chunk[at..]) else {
                self.line.extend_from_slice(&chunk[at..]);
                break;
            };
            let end = at + length;
            if self.line.is_empty() {
                pending = self.accept(chunk, at, end, pending, on_event)?;
            } else {
                self.line.extend_from_slice(&chunk[at..end]);
                let line = std::mem::take(&mut self.line);
                pending = self.accept_copied(&line, chunk, pending, on_event)?;
                self.line = line;
                self.line.clear();
                self.line.shrink_to(KEPT);
            }
            self.skip_lf = chunk[end] == b'\r';
            at = end + 1;
        }
        self.keep(chunk, pending);
        self.check_size()
    }

    /// Ends the stream: an event that only lacks its blank line, or its newline, is reported.
    pub fn finish(&mut self, on_event: &mut impl FnMut(Event<'_>) -> Result<()>) -> Result<()> {
        let line = std::mem::take(&mut self.line);
        let mut pending = if self.has_data { Pending::Copied } else { Pending::None };
        if !line.is_empty() {
            pending = self.accept_copied(&line, &[], pending, on_event)?;
        }
        self.accept(&[], 0, 0, pending, on_event)?;
        Ok(())
    }

    /// Handles the line in `chunk[start..end]`.
    fn accept(
        &mut self,
        chunk: &[u8],
        start: usize,
        end: usize,
        pending: Pending,
        on_event: &mut impl FnMut(Event<'_>) -> Result<()>,
    ) -> Result<Pending> {
        let line = without_bom(&chunk[start..end]);
        if line.is_empty() {
            self.dispatch(chunk, pending, on_event)?;
            return Ok(Pending::None);
        }
        match field(line) {
            (b"", _) => on_event(Event::Comment).map(|()| pending),
            (b"data", value) => match pending {
                Pending::None => {
                    // `value` is the tail of `line`, so its place in the chunk follows from its length.
                    Ok(Pending::InChunk(end - value.len(), end))
                }
                Pending::InChunk(..) | Pending::Copied => {
                    self.keep(chunk, pending);
                    self.data.push(b'\n');
                    self.data.extend_from_slice(value);
                    self.check_size().map(|()| Pending::Copied)
                }
            },
            (b"event", value) => {
                self.name = String::from_utf8_lossy(value).into_owned();
                Ok(pending)
            }
            _ => Ok(pending),
        }
    }

    /// Handles a line that was put together from several chunks.
    fn accept_copied(
        &mut self,
        line: &[u8],
        chunk: &[u8],
        pending: Pending,
        on_event: &mut impl FnMut(Event<'_>) -> Result<()>,
    ) -> Result<Pending> {
        match field(without_bom(line)) {
            (b"data", value) => {
                self.keep(chunk, pending);
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                self.has_data = true;
                self.check_size().map(|()| Pending::Copied)
            }
            // Other fields never point into the chunk.
            _ => self.accept(line, 0, line.len(), pending, on_event),
        }
    }

    fn dispatch(
        &mut self,
        chunk: &[u8],
        pending: Pending,
        on_event: &mut impl FnMut(Event<'_>) -> Result<()>,
    ) -> Result<()> {
        let name = std::mem::take(&mut self.name);
        let result = match pending {
            Pending::None => Ok(()),
            Pending::InChunk(start, end) => on_event(Event::Data { name: &name, data: &chunk[start..end] }),
            Pending::Copied => on_event(Event::Data { name: &name, data: &self.data }),
        };
        self.data.clear();
        self.has_data = false;
        self.data.shrink_to(KEPT);
        result
    }

    /// Saves data that still lies in the chunk before the chunk goes away.
    fn keep(&mut self, chunk: &[u8], pending: Pending) {
        if let Pending::InChunk(start, end) = pending {
            self.data.extend_from_slice(&chunk[start..end]);
            self.has_data = true;
        }
    }

    fn check_size(&self) -> Result<()> {
        if self.line.len() + self.data.len() > MAX_EVENT_BYTES {
            return Err(Error::protocol("the stream contains an event of more than 16 MiB", ""));
        }
        Ok(())
    }
}

/// Splits a line into field name and value; a comment has an empty name.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b':', line) {
        Some(colon) => {
            let value = &line[colon + 1..];
            (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
        }
        None => (line, b""),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type SeenEvents = Vec<(String, Vec<u8>)>;

    fn decode(chunks: &[&[u8]]) -> SeenEvents {
        let mut decoder = SseDecoder::default();
        let mut seen = SeenEvents::new();
        let mut collect = |event: Event<'_>| {
            if let Event::Data { name, data } = event {
                seen.push((name.to_owned(), data.to_vec()));
            }
            Ok(())
        };
        for chunk in chunks {
            decoder.feed(chunk, &mut collect).unwrap();
        }
        decoder.finish(&mut collect).unwrap();
        seen
    }

    /// Reads events as plainly as possible: split into lines, then group.
    fn naive(bytes: &[u8]) -> SeenEvents {
        let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
        let mut i = 0;
        while i < bytes.len() {
            match bytes[i] {
                b'\n' => lines.push(Vec::new()),
                b'\r' => {
                    lines.push(Vec::new());
                    if bytes.get(i + 1) == Some(&b'\n') {
                        i += 1;
                    }
                }
                byte => lines.last_mut().unwrap().push(byte),
            }
            i += 1;
        }
        lines.push(Vec::new()); // the end of the stream closes a last event
        let mut seen = SeenEvents::new();
        let mut name = String::new();
        let mut data: Option<Vec<u8>> = None;
        for line in lines {
            let line = line.strip_prefix("\u{feff}".as_bytes()).map(<[u8]>::to_vec).unwrap_or(line);
            if line.is_empty() {
                if let Some(data) = data.take() {
                    seen.push((name.clone(), data));
                }
                name.clear();
                continue;
            }
            let (key, value) = match line.iter().position(|b| *b == b':') {
                Some(at) => (line[..at].to_vec(), line[at + 1..].to_vec()),
                None => (line, Vec::new()),
            };
            let value = value.strip_prefix(b" ").map(<[u8]>::to_vec).unwrap_or(value);
            match key.as_slice() {
                b"data" => match &mut data {
                    Some(data) => {
                        data.push(b'\n');
                        data.extend(value);
                    }
                    None => data = Some(value),
                },
                b"event" => name = String::from_utf8_lossy(&value).into_owned(),
                _ => {}
            }
        }
        seen
    }

    fn one(data: &str) -> SeenEvents {
        vec![(String::new(), data.as_bytes().to_vec())]
    }

    #[test]
    fn sse_every_line_ending_and_spacing_is_understood() {
        assert_eq!(decode(&[b"data: a\n\n"]), one("a"));
        assert_eq!(decode(&[b"data:a\r\n\r\n"]), one("a"));
        assert_eq!(decode(&[b"data: a\r\r"]), one("a"));
        assert_eq!(decode(&[b"data:  a\n\n"]), one(" a"));
        assert_eq!(decode(&[b"data: a\ndata: b\n\n"]), one("a\nb"));
        assert_eq!(decode(&[b"\xEF\xBB\xBFdata: a\n\n"]), one("a"));
        assert_eq!(decode(&[b"data: a\n\n\xEF\xBB", b"\xBFdata: b\n\n"]), [one("a"), one("b")].concat());
        assert_eq!(decode(&[b": ping\n\ndata: a\n\n"]), one("a"));
        assert_eq!(decode(&[b"id: 7\nretry: 10\ndata: a\n\n"]), one("a"));
        assert_eq!(decode(&[b"event: ping\ndata: a\n\n"]), [("ping".to_owned(), b"a".to_vec())]);
    }

    #[test]
    fn sse_missing_final_newline_or_blank_line_loses_nothing() {
        assert_eq!(decode(&[b"data: a\n"]), one("a"));
        assert_eq!(decode(&[b"data: a"]), one("a"));
        assert_eq!(decode(&[b"data"]), one(""));
    }

    #[test]
    fn sse_event_that_never_ends_is_an_error() {
        let mut decoder = SseDecoder::default();
        let block = vec![b'x'; 1 << 20];
        let mut ignore = |_: Event<'_>| Ok(());
        decoder.feed(b"data: ", &mut ignore).unwrap();
        let failed = (0..20).find_map(|_| decoder.feed(&block, &mut ignore).err());
        assert!(failed.unwrap().message.contains("16 MiB"));
    }

    #[test]
    fn sse_ten_megabyte_event_arrives_whole() {
        let mut bytes = b"data: ".to_vec();
        bytes.extend(std::iter::repeat_n(b'y', 10 << 20));
        bytes.extend(b"\n\n");
        let chunks: Vec<&[u8]> = bytes.chunks(16 << 10).collect();
        assert_eq!(decode(&chunks)[0].1.len(), 10 << 20);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn sse_any_chunking_gives_what_the_naive_reader_gives(
            parts in prop::collection::vec(prop::sample::select(vec![
                "data:", "data: ", "data", "event: e", ": c", "id: 1", "\n", "\r", "\r\n", "\n\n", "{\"a\":1}", "é", "x", ":", "\u{feff}",
            ]), 0..24),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let bytes = parts.concat().into_bytes();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            ends.extend([0, bytes.len()]);
            ends.sort_unstable();
            let chunks: Vec<&[u8]> = ends.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(decode(&chunks), naive(&bytes));
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(decode(&single), naive(&bytes));
        }
    }
}
