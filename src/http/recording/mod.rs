//! Records requests and answers for bug reports: `KIMI_CODE_RECORD=<folder>` (docs/doctor.md#record-and-replay).
//!
//! Each exchange is a folder with the request, the bytes of the answer as they came, and their times. Credentials are masked before
//! anything is written. Files are written by a thread of their own, so that a slow disk delays no stream.

mod filler;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::Response;
use reqwest::header::HeaderMap;
use serde_json::{Map, Value, json};

use self::filler::Filler;
use super::redact::KnownSecrets;
use crate::VERSION;
use crate::config::RecordingSettings;
use crate::error::cause_chain;
use crate::storage::clock::now_ms;
use crate::storage::private_file::{create_private_dir, create_private_file};

/// Version of the files' form.
const FORM: u32 = 1;

/// Longest wait for the writer when the process exits.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Headers that are written. Any other may hold a secret.
const KNOWN_HEADERS: [&str; 16] = [
    "accept",
    "anthropic-beta",
    "anthropic-version",
    "age",
    "cache-control",
    "content-type",
    "date",
    "retry-after",
    "retry-after-ms",
    "server",
    "user-agent",
    "via",
    "x-msh-platform",
    "x-msh-version",
    "x-request-id",
    "x-trace-id",
];

/// What the writer does next.
enum Job {
    /// Writes a file of an exchange.
    Write(PathBuf, Vec<u8>),
    /// Appends to the answer: when it came, in milliseconds since the request, and its bytes.
    Chunk(PathBuf, f64, Bytes),
    /// Ends an exchange.
    End(PathBuf, Value),
    /// Tells that everything before it is written.
    Flush(Sender<()>),
}

/// The writer of a process, started with the first exchange.
#[derive(Default)]
pub struct Recorder {
    jobs: Mutex<Option<Sender<Job>>>,
    count: AtomicU64,
}

impl Recorder {
    /// Begins an exchange. `path` is that below the base URL; `body` is absent where it is a stream.
    pub fn begin(
        &self,
        settings: &RecordingSettings,
        method: &str,
        path: &str,
        headers: &HeaderMap,
        body: Option<&[u8]>,
    ) -> Exchange {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let label: String = path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
        let name = format!("{}-{}-{number:06}{label}", now_ms(), std::process::id());
        let folder = settings.folder.join(name);
        let jobs = self.jobs();
        let request = json!({
            "form": FORM, "package": VERSION, "method": method, "path": path, "startedAt": now_ms(),
            "headers": known(headers), "bodyBytes": body.map(<[u8]>::len),
        });
        let _ = jobs.send(Job::Write(folder.join("request.json"), request.to_string().into()));
        if let Some(body) = body {
            let mut body = body.to_vec();
            KnownSecrets::shared().mask(&mut body);
            if settings.without_texts {
                Filler::of_path(path).fill(&mut body);
            }
            let _ = jobs.send(Job::Write(folder.join("request.body"), body));
        }
        Exchange {
            folder,
            jobs,
            started: Instant::now(),
            filler: settings.without_texts.then(|| Filler::of_path(path)),
        }
    }

    /// Waits until everything so far is written. For the exit of the process.
    pub fn flush(&self) {
        let Some(jobs) = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return };
        let (done, wait) = mpsc::channel();
        if jobs.send(Job::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(FLUSH_TIMEOUT);
        }
    }

    fn jobs(&self) -> Sender<Job> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::channel();
            // Without a thread, jobs go nowhere: a recording is never worth a failed request.
            let _ = std::thread::Builder::new().name("kimi-code-record".to_owned()).spawn(move || write_all(&receiver));
            sender
        })
        .clone()
    }
}

/// One request whose answer is recorded.
pub struct Exchange {
    folder: PathBuf,
    jobs: Sender<Job>,
    started: Instant,
    filler: Option<Filler>,
}

impl Exchange {
    /// Returns the same response, whose body is recorded while it is read.
    pub fn answered(mut self, result: reqwest::Result<Response>) -> reqwest::Result<Response> {
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                let end = json!({ "end": "failed", "error": KnownSecrets::shared().redact(&cause_chain(&error)) });
                self.end(end);
                return Err(error);
            }
        };
        let head = json!({
            "status": response.status().as_u16(), "headers": known(response.headers()), "afterMs": self.after_ms(),
        });
        let _ = self.jobs.send(Job::Write(self.folder.join("response.json"), head.to_string().into()));
        // What the service says about an error is not the conversation, and is what the recording is for.
        if !response.status().is_success() {
            self.filler = None;
        }
        let (parts, body) = http::Response::from(response).into_parts();
        let body = RecordedBody { body: Box::pin(body), exchange: Some(self) };
        Ok(http::Response::from_parts(parts, reqwest::Body::wrap(body)).into())
    }

    fn after_ms(&self) -> f64 {
        (self.started.elapsed().as_secs_f64() * 1e6).round() / 1e3
    }

    fn chunk(&mut self, bytes: &Bytes) {
        let mut bytes = bytes.to_vec();
        KnownSecrets::shared().mask(&mut bytes);
        if let Some(filler) = &mut self.filler {
            filler.fill(&mut bytes);
        }
        let _ = self.jobs.send(Job::Chunk(self.folder.clone(), self.after_ms(), bytes.into()));
    }

    fn end(&self, mut end: Value) {
        end["afterMs"] = self.after_ms().into();
        let _ = self.jobs.send(Job::End(self.folder.clone(), end));
    }
}

/// A body that is recorded while it is read.
struct RecordedBody {
    body: Pin<Box<reqwest::Body>>,
    /// Absent once its end is recorded.
    exchange: Option<Exchange>,
}

impl Body for RecordedBody {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let polled = this.body.as_mut().poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(exchange), Some(data)) = (&mut this.exchange, frame.data_ref()) {
                    exchange.chunk(data);
                }
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(exchange) = this.exchange.take() {
                    exchange
                        .end(json!({ "end": "broken", "error": KnownSecrets::shared().redact(&cause_chain(error)) }));
                }
            }
            Poll::Ready(None) => {
                if let Some(exchange) = this.exchange.take() {
                    exchange.end(json!({ "end": "complete" }));
                }
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RecordedBody {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            // A body of known length is not polled again after its last byte.
            let end = if self.body.is_end_stream() { "complete" } else { "aborted" };
            exchange.end(json!({ "end": end }));
        }
    }
}

/// Returns the headers that hold no secrets.
fn known(headers: &HeaderMap) -> Map<String, Value> {
    let names = headers
        .iter()
        .filter(|(name, _)| KNOWN_HEADERS.contains(&name.as_str()) || name.as_str().starts_with("x-ratelimit-"));
    names
        .filter_map(|(name, value)| {
            let text = KnownSecrets::shared().redact(value.to_str().ok()?);
            Some((name.as_str().to_owned(), text.into()))
        })
        .collect()
}

/// Does the jobs of a process until it ends. Errors are logged once for each exchange at most.
fn write_all(jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        let written = match job {
            Job::Write(file, content) => write(&file, &content),
            Job::Chunk(folder, after_ms, bytes) => append(&folder, after_ms, &bytes),
            Job::End(folder, end) => finish(&folder, &end),
            Job::Flush(done) => {
                let _ = done.send(());
                Ok(())
            }
        };
        if let Err(error) = written {
            tracing::info!(%error, "the recording cannot be written");
        }
    }
}

fn write(file: &Path, content: &[u8]) -> io::Result<()> {
    file.parent().map_or(Ok(()), create_private_dir)?;
    create_private_file(file)?.write_all(content)
}

fn append(folder: &Path, after_ms: f64, bytes: &[u8]) -> io::Result<()> {
    open(&folder.join("response.body"))?.write_all(bytes)?;
    writeln!(open(&folder.join("response.timing"))?, "{after_ms} {}", bytes.len())
}

fn open(file: &Path) -> io::Result<File> {
    let mut options = crate::storage::private_file::private_options();
    options.append(true).create(true).open(file)
}

/// Writes the end, and masks credentials that were split between two chunks.
fn finish(folder: &Path, end: &Value) -> io::Result<()> {
    let body = folder.join("response.body");
    if let Ok(mut content) = fs::read(&body)
        && KnownSecrets::shared().mask(&mut content)
    {
        fs::write(&body, content)?;
    }
    write(&folder.join("end.json"), end.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> Vec<PathBuf> {
        let exchange = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
        let mut files: Vec<PathBuf> = fs::read_dir(exchange).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    }

    #[tokio::test]
    async fn recording_of_an_answer_is_its_bytes_without_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let settings = RecordingSettings { folder: folder.path().to_owned(), without_texts: false };
        KnownSecrets::shared().add_credential("sk-kimi-recorded-secret-42");
        let recorder = Recorder::default();
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer sk-kimi-recorded-secret-42".parse().unwrap());
        headers.insert("x-custom", "own-secret".parse().unwrap());
        headers.insert("user-agent", "pi/1".parse().unwrap());
        let exchange = recorder.begin(&settings, "POST", "/v1/chat/completions", &headers, Some(b"{\"a\":1}"));
        // The key is split between two chunks.
        let chunks: Vec<io::Result<&[u8]>> = vec![Ok(b"data: sk-kimi-recor"), Ok(b"ded-secret-42\n\n")];
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
        let mut response =
            exchange.answered(Ok(http::Response::builder().status(200).body(body).unwrap().into())).unwrap();
        while response.chunk().await.unwrap().is_some() {}
        recorder.flush();
        let files = files(folder.path());
        let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(
            names,
            ["end.json", "request.body", "request.json", "response.body", "response.json", "response.timing"]
        );
        let all: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        assert!(!all.contains("secret") && all.contains("pi/1") && all.contains("\"complete\""), "{all}");
        assert_eq!(fs::read(&files[3]).unwrap().len(), 34, "masked in place");
        assert_eq!(fs::read(&files[1]).unwrap(), b"{\"a\":1}");
    }

    #[tokio::test]
    async fn recording_of_an_answer_that_is_not_read_to_its_end_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let settings = RecordingSettings { folder: folder.path().to_owned(), without_texts: false };
        let recorder = Recorder::default();
        let exchange = recorder.begin(&settings, "GET", "/v1/models", &HeaderMap::new(), None);
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter([Ok::<_, io::Error>("a"), Ok("b")]));
        let mut response = exchange.answered(Ok(http::Response::new(body).into())).unwrap();
        response.chunk().await.unwrap();
        drop(response);
        recorder.flush();
        assert!(fs::read_to_string(&files(folder.path())[0]).unwrap().contains("aborted"));
    }
}
