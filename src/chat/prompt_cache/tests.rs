//! The records against a cache that works as the service's was measured to (docs/protocol.md#prompt-cache). Its tokenizer is
//! another one than our estimate.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};

use super::BLOCK_TOKENS;
use super::records::{PromptCaches, Sending, SessionKey};
use super::session::CacheScope;
use super::verdict::{CacheUsage, Judgement, Verdict};
use crate::chat::request::body::BodyOptions;
use crate::chat::request::normalize::{Target, normalize};
use crate::chat::request::tool_schema::SchemaCache;
use crate::chat::request::transcript::Transcript;
use crate::config::Dialect;
use crate::files::{BodyTemplate, MediaPayload};

const DIALECTS: [Dialect; 2] = [Dialect::OpenAi, Dialect::Anthropic];

const MINUTE_MS: i64 = 60_000;

/// The service's cache: prefixes in blocks of 256 tokens, whole prompts, and one head for each system prompt with its tools.
#[derive(Default)]
struct Service {
    blocks: HashSet<u64>,
}

impl Service {
    /// Reads a body and returns the tokens of its prompt and those that were in the cache.
    fn read(&mut self, body: &[u8]) -> (u64, u64) {
        let body: Value = serde_json::from_slice(body).unwrap();
        let (mut head, mut turns) = (vec![body["system"].to_string(), body["tools"].to_string()], Vec::new());
        for (at, message) in body["messages"].as_array().unwrap().iter().enumerate() {
            let text = without_marks(message).to_string();
            if at == 0 && message["role"] == "system" { head.push(text) } else { turns.push(text) }
        }
        head[1] = without_marks(&body["tools"]).to_string();
        let head = head.join("\n");
        let mut hasher = DefaultHasher::new();
        (head.as_str(), body["model"].as_str()).hash(&mut hasher);
        let (mut tokens, mut keys) = (0_u64, Vec::new());
        for text in std::iter::once(&head).chain(&turns) {
            for token in tokens_of(text) {
                token.hash(&mut hasher);
                tokens += 1;
                if tokens.is_multiple_of(BLOCK_TOKENS) {
                    keys.push(hasher.finish());
                }
            }
        }
        "end".hash(&mut hasher);
        let whole = hasher.finish();
        let cached = if self.blocks.contains(&whole) {
            tokens
        } else {
            keys.iter().take_while(|key| self.blocks.contains(key)).count() as u64 * BLOCK_TOKENS
        };
        self.blocks.extend(keys);
        self.blocks.insert(whole);
        (tokens, cached)
    }
}

fn without_marks(value: &Value) -> Value {
    match value {
        Value::Array(list) => list.iter().map(without_marks).collect(),
        Value::Object(members) => Value::Object(
            members
                .iter()
                .filter(|(key, _)| *key != "cache_control")
                .map(|(key, one)| (key.clone(), without_marks(one)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// Words in pieces of four bytes, everything else by the byte pair.
fn tokens_of(text: &str) -> impl Iterator<Item = &[u8]> {
    text.as_bytes().split_inclusive(|byte| !byte.is_ascii_alphanumeric()).flat_map(|word| word.chunks(4))
}

fn words(seed: u64, count: u64) -> String {
    const WORDS: [&str; 16] = [
        "function", "return", "the", "of", "prompt", "value", "a", "match", "tokens", "result", "cache", "in",
        "string", "read", "element", "x",
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let word = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{}{}", WORDS[(state % 16) as usize], if state.is_multiple_of(11) { "\n" } else { " " })
    };
    (0..count).map(word).collect()
}

fn tool(name: &str) -> Value {
    json!({"name": name, "description": words(name.len() as u64, 20), "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}})
}

fn user(seed: u64, count: u64) -> Value {
    json!({"role": "user", "content": words(seed, count)})
}

fn image(data: &str) -> Value {
    json!({"role": "user", "content": [{"type": "text", "text": "what is this"}, {"type": "image", "mimeType": "image/png", "data": data}]})
}

/// A round: question, call, result, answer.
fn round(seed: u64, size: u64) -> Vec<Value> {
    let answer = |content: Value, reason: &str| json!({"role": "assistant", "provider": "kimi-coding", "stopReason": reason, "content": content});
    let id = format!("read:{seed}");
    vec![
        user(seed, size),
        answer(
            json!([{"type": "toolCall", "id": id, "name": "read", "arguments": {"path": words(seed + 1, 3)}}]),
            "toolUse",
        ),
        json!({"role": "toolResult", "toolCallId": id, "toolName": "read", "content": [{"type": "text", "text": words(seed + 2, size * 3)}]}),
        answer(json!([{"type": "text", "text": words(seed + 3, size / 2 + 1)}]), "stop"),
    ]
}

/// A conversation as Pi has it.
#[derive(Clone)]
struct Session {
    dialect: Dialect,
    system: String,
    tools: Vec<Value>,
    messages: Vec<Value>,
    model: &'static str,
}

impl Session {
    fn new(dialect: Dialect, seed: u64) -> Self {
        let system = format!(
            "{}\n<project_context>\n{}\n</project_context>\nCurrent date: 2026-11-27\n<cwd>\n/home/me\n</cwd>",
            words(seed + 5, 120),
            words(seed + 6, 40)
        );
        let tools = ["read", "bash", "edit", "write"].map(tool).to_vec();
        Self { dialect, system, tools, messages: Vec::new(), model: "k3" }
    }

    fn with(mut self, messages: impl IntoIterator<Item = Value>) -> Self {
        self.messages.extend(messages);
        self
    }

    fn body(&self) -> Vec<u8> {
        let head = json!({"role": "system", "content": self.system, "toolsAdded": self.tools});
        let messages: Vec<&Value> = std::iter::once(&head).chain(&self.messages).collect();
        let context = json!({ "messages": messages }).to_string();
        let target = Target { images: true, anthropic: self.dialect == Dialect::Anthropic, ..Target::default() };
        let mut conversation = normalize(Transcript::parse(&context, &[]).unwrap(), target, &SchemaCache::default());
        let cap = 100_000 - context.len() as u64 / 4;
        let options = BodyOptions {
            model: self.model.into(),
            prompt_cache_key: Some("session".into()),
            max_completion_tokens: cap,
            ..BodyOptions::default()
        };
        let media = BodyTemplate::number(conversation.media_refs_mut());
        let inline: Vec<MediaPayload> =
            media.iter().map(|media| MediaPayload::Inline(media.media_item.content().unwrap())).collect();
        let body = self.dialect.encode(&conversation, &options).unwrap();
        BodyTemplate::new(body, media, self.dialect.shape()).fill(&inline).to_vec()
    }
}

/// Our records beside the service.
#[derive(Default)]
struct Bench {
    caches: PromptCaches,
    service: Service,
    now: i64,
    state: Option<std::path::PathBuf>,
}

/// What one request brought.
struct Outcome {
    judgement: Judgement,
    predicted: u64,
    cached: u64,
}

impl Bench {
    fn key(&self, session: &str) -> SessionKey {
        SessionKey { state: self.state.clone(), session: session.to_owned() }
    }

    fn begin(&mut self, session: &str, body: &[u8], model: &str, is_rewritten: bool) -> u64 {
        self.now += MINUTE_MS;
        let sending = Sending {
            scope: CacheScope::new("account", model),
            model: model.to_owned(),
            at: self.now,
            lifetime_ms: None,
            is_rewritten,
        };
        self.caches.send(&self.key(session), body, sending)
    }

    fn ask(&mut self, name: &str, session: &Session) -> Outcome {
        let body = session.body();
        let id = self.begin(name, &body, session.model, false);
        let (prompt, cached) = self.service.read(&body);
        let usage = CacheUsage::checked(Some(prompt), Some(cached));
        let judgement = self.caches.finish(&self.key(name), id, usage, None).unwrap();
        let report = self.caches.report(&self.key(name), 1, &[]);
        Outcome { judgement, predicted: report.requests[0].predicted, cached }
    }
}

impl Outcome {
    fn error(&self) -> u64 {
        self.predicted.abs_diff(self.cached)
    }
}

/// Every kind of change: its name, what it does to a session, and the segment (where it is not a message) and cause that are expected.
type Change = (&'static str, fn(&mut Session), Option<&'static str>, &'static str);

const SUMMARY: &str = "The conversation history before this point was compacted into the following summary:\n\n<summary>\nall\n</summary>";

const CHANGES: [Change; 12] = [
    ("tool joins", |session| session.tools.push(tool("fetch")), Some("tool 4"), "the tool fetch joined"),
    ("tool leaves", |session| drop(session.tools.remove(1)), Some("tool 1"), "the tool bash left"),
    (
        "tool changes",
        |session| session.tools[2]["description"] = json!("Edits."),
        Some("tool 2"),
        "the tool edit is described differently",
    ),
    ("tools change places", |session| session.tools.swap(0, 3), Some("tool 0"), "the tools have another order"),
    (
        "date",
        |session| session.system = session.system.replace("11-27", "11-28"),
        Some("system part 3"),
        "the date in the system prompt changed",
    ),
    (
        "AGENTS.md",
        |session| session.system = session.system.replace("<project_context>\n", "<project_context>\nBe brief.\n"),
        Some("system part 1"),
        "AGENTS.md or another project file in the system prompt changed",
    ),
    (
        "system prompt",
        |session| session.system.insert_str(0, "Now. "),
        Some("system"),
        "the system prompt changed, perhaps by an extension",
    ),
    ("message edited", |session| session.messages[12]["content"] = json!(words(77, 50)), None, "was changed"),
    ("message put in", |session| drop(session.messages.splice(10..10, pair(78))), None, "something was put in"),
    ("message taken out", |session| drop(session.messages.drain(6..10)), None, "was taken out"),
    ("image", |session| session.messages[10] = image("aGk="), None, "has another id or content"),
    (
        "compaction",
        |session| drop(session.messages.splice(..10, [json!({"role": "user", "content": SUMMARY})])),
        None,
        "the conversation was compacted",
    ),
];

fn answer(seed: u64) -> Value {
    json!({"role": "assistant", "provider": "kimi-coding", "stopReason": "stop", "content": [{"type": "text", "text": words(seed, 30)}]})
}

fn pair(seed: u64) -> [Value; 2] {
    [user(seed, 40), answer(seed)]
}

/// The number of the first message that differs, without the system prompt.
fn first_difference(one: &[u8], other: &[u8]) -> usize {
    let messages = |body: &[u8]| -> Vec<Value> {
        let body: Value = serde_json::from_slice(body).unwrap();
        let all = body["messages"].as_array().unwrap().iter().map(without_marks);
        all.filter(|message| message["role"] != "system").collect()
    };
    messages(one).iter().zip(&messages(other)).take_while(|(one, other)| one == other).count()
}

#[test]
fn every_kind_of_change_names_its_segment_and_cause() {
    let mut right = 0;
    for dialect in DIALECTS {
        for (name, change, segment, cause) in CHANGES {
            let mut bench = Bench::default();
            let mut session = Session::new(dialect, 3);
            let mut before = Vec::new();
            for n in 0..6 {
                session = session.with(round(n * 10, 120));
                session.messages.push(if n == 1 { image("eA==") } else { user(n, 10) });
                bench.ask("s", &session);
                before = session.body();
                session.messages.push(answer(n));
            }
            session.messages.push(user(99, 20));
            change(&mut session);
            let expected = match segment {
                Some(segment) => segment.to_owned(),
                None => format!("message {}", first_difference(&before, &session.body())),
            };
            let outcome = bench.ask("s", &session);
            let report = bench.caches.report(&bench.key("s"), 1, &[]);
            let row = &report.requests[0];
            assert_eq!(row.verdict, Verdict::Changed, "{name}, {dialect:?}: {row:?}");
            let found = row.segment.clone().unwrap();
            let place = if segment.is_none() { found.split(" part").next().unwrap_or_default() } else { &found };
            assert_eq!(place, expected, "{name}, {dialect:?}");
            assert!(
                row.cause.as_ref().is_some_and(|found| found.contains(cause)),
                "{name}, {dialect:?}: {:?}",
                row.cause
            );
            right += 1;
            assert!(
                outcome.error() <= BLOCK_TOKENS,
                "{name}, {dialect:?}: {} of {}",
                outcome.predicted,
                outcome.cached
            );
        }
    }
    assert_eq!(right, 24);
}

/// What a simple rule says: less came from the cache than last time.
#[derive(Default)]
struct NaiveRule {
    last: HashMap<String, u64>,
}

impl NaiveRule {
    fn alarms(&mut self, session: &str, cached: u64) -> bool {
        self.last.insert(session.to_owned(), cached).is_some_and(|last| cached < last)
    }
}

#[test]
fn thousand_growing_sessions_bring_no_notice() {
    let mut bench = Bench::default();
    let (mut naive, mut ours, mut worst) = (0, 0, 0);
    let mut rule = NaiveRule::default();
    for n in 0..1000_u64 {
        let mut session = Session::new(DIALECTS[(n % 2) as usize], n % 3);
        let name = format!("s{n}");
        let mut check = |name: &str, session: &Session, verdicts: &[Verdict]| {
            let outcome = bench.ask(name, session);
            assert!(verdicts.contains(&outcome.judgement.verdict), "{name}: {:?}", outcome.judgement);
            naive += u32::from(rule.alarms(name, outcome.cached));
            ours += u32::from(outcome.judgement.read_again > 0);
            worst = worst.max(outcome.error());
        };
        for step in 0..3 {
            session = session.with(round(n * 100 + step * 10, 5 + n % 8)).with([user(n + step, 10)]);
            check(&name, &session, &[Verdict::Grew]);
            session.messages.push(answer(n + step));
        }
        // A rewind by one question, in the same session and as a fork with an id of its own.
        session.messages.truncate(session.messages.len() - 6);
        session.messages.push(user(n + 1_000_000, 15));
        let fork = if n % 3 == 0 { format!("{name}-fork") } else { name.clone() };
        check(&fork, &session, &[Verdict::Shortened, Verdict::Grew]);
        // A side question under the same id, as compaction asks one, and the conversation after it.
        let side =
            Session { system: words(n, 30), tools: Vec::new(), messages: vec![user(n + 9, 400)], ..session.clone() };
        check(&fork, &side, &[Verdict::Grew]);
        session = session.with([answer(n + 50), user(n + 60, 12)]);
        check(&fork, &session, &[Verdict::Grew]);
    }
    println!(
        "false alarms in 6,000 requests: {ours} by the chain, {naive} by the naive rule; prediction off by at most {worst}"
    );
    assert_eq!(ours, 0);
    assert!(naive >= 1000, "{naive}");
    assert!(worst <= BLOCK_TOKENS, "{worst}");
}

#[test]
fn pause_model_and_eviction_are_told_apart() {
    for dialect in DIALECTS {
        let mut bench = Bench::default();
        let mut session = Session::new(dialect, 1).with(round(1, 200)).with([user(2, 10)]);
        bench.ask("s", &session);
        let grow = |session: &mut Session, seed| *session = session.clone().with([answer(seed), user(seed, 10)]);
        grow(&mut session, 10);
        bench.service = Service::default();
        let evicted = bench.ask("s", &session);
        assert_eq!(evicted.judgement.verdict, Verdict::Evicted);
        assert!(evicted.judgement.read_again > 500);
        bench.now += 6 * MINUTE_MS;
        bench.service = Service::default();
        grow(&mut session, 11);
        let idle = bench.ask("s", &session);
        assert_eq!((idle.judgement.verdict, idle.judgement.read_again), (Verdict::Idle, 0));
        session.model = "k2";
        grow(&mut session, 12);
        assert_eq!(bench.ask("s", &session).judgement.verdict, Verdict::Model);
        grow(&mut session, 13);
        assert_eq!(bench.ask("s", &session).judgement.verdict, Verdict::Grew);
    }
}

#[test]
fn usage_that_lies_says_nothing() {
    let usage = [(None, None), (Some(5), None), (None, Some(5)), (Some(5), Some(6)), (Some(0), Some(0))];
    for (prompt, cached) in usage {
        assert_eq!(CacheUsage::checked(prompt, cached), None, "{prompt:?} {cached:?}");
    }
    let mut bench = Bench::default();
    let session = Session::new(Dialect::OpenAi, 1).with([user(1, 500)]);
    let id = bench.begin("s", &session.body(), "k3", false);
    let judgement = bench.caches.finish(&bench.key("s"), id, None, None).unwrap();
    assert_eq!((judgement.verdict, judgement.read_again), (Verdict::Unknown, 0));
    // The next request is judged by its own numbers.
    let more = session.clone().with([answer(1), user(2, 10)]);
    bench.service.read(&session.body());
    assert_eq!(bench.ask("s", &more).judgement.verdict, Verdict::Grew);
    // A number of another process means nothing.
    assert_eq!(bench.caches.finish(&bench.key("s"), 999, None, None), None);
}

#[test]
fn hook_that_rewrites_the_request_is_named() {
    let mut bench = Bench::default();
    let session = Session::new(Dialect::OpenAi, 1).with(round(1, 400)).with([user(2, 10)]);
    bench.ask("s", &session);
    let mut changed = session.clone().with([answer(3), user(4, 10)]);
    changed.messages[0]["content"] = json!("short");
    let body = changed.body();
    let id = bench.begin("s", &body, "k3", true);
    let (prompt, cached) = bench.service.read(&body);
    let usage = CacheUsage::checked(Some(prompt), Some(cached));
    bench.caches.finish(&bench.key("s"), id, usage, None).unwrap();
    let report = bench.caches.report(&bench.key("s"), 1, &[]);
    assert!(report.requests[0].cause.as_ref().unwrap().contains("a payload hook rewrote the request"));
    // Whatever a hook returns is read as far as it can be, and never ends a turn.
    for body in [
        &b""[..],
        b"[]",
        b"null",
        br#"{"messages":5,"tools":{}}"#,
        br#"{"messages":[1,null,"x",{"role":7}]"#,
        b"\xff{\"a\":",
    ] {
        bench.begin("odd", body, "k3", true);
    }
    // The same body with other spacing is the same prompt.
    let spaced = serde_json::to_vec_pretty(&serde_json::from_slice::<Value>(&session.body()).unwrap()).unwrap();
    let chain = super::chain::Chain::read(&spaced, &super::chain::Chain::default(), 0);
    assert_eq!(chain.elements.len(), 1 + 4 + session.messages.len());
}

#[test]
fn records_on_disk_hold_hashes_and_numbers_and_are_found_by_the_next_process() {
    let state = tempfile::tempdir().unwrap();
    for dialect in DIALECTS {
        let name = format!("secret-session-{dialect:?}");
        let mut bench = Bench { state: Some(state.path().to_owned()), ..Bench::default() };
        let mut session = Session::new(dialect, 2);
        for n in 0..60 {
            session = session.with([user(n, 20), answer(n), user(n + 1000, 20)]);
            bench.ask(&name, &session);
            session.messages.push(answer(n));
        }
        session.tools.push(tool("fetch"));
        session.messages.push(user(5, 5));
        bench.ask(&name, &session);
        bench.caches.save(&bench.key(&name));
        let known = bench.caches.report(&bench.key(&name), 100, &[]);
        assert_eq!(known.requests.len(), 50);
        // Another process.
        let mut next = Bench { state: bench.state.clone(), service: bench.service, now: bench.now, ..Bench::default() };
        let models = [("k3".to_owned(), CacheScope::hash("k3"))];
        let restored = next.caches.report(&next.key(&name), 100, &models);
        assert_eq!(restored.requests.len(), 50);
        for (one, other) in restored.requests.iter().zip(&known.requests) {
            assert_eq!(
                (one.at, &one.model, one.prompt, one.cached),
                (other.at, &other.model, other.prompt, other.cached)
            );
            assert_eq!((one.verdict, &one.segment, one.offset), (other.verdict, &other.segment, other.offset));
        }
        assert_eq!(restored.requests[49].cause.as_deref(), Some("a tool joined"));
        session = session.with([answer(7), user(8, 5)]);
        let outcome = next.ask(&name, &session);
        assert_eq!(outcome.judgement.verdict, Verdict::Grew);
        assert!(outcome.predicted > 0 && outcome.error() <= BLOCK_TOKENS);
    }
    let files: Vec<_> = std::fs::read_dir(state.path().join("prompt-cache")).unwrap().flatten().collect();
    assert_eq!(files.len(), 2);
    for file in files {
        assert!(!file.file_name().to_string_lossy().contains("secret"));
        numbers_only(&serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap());
    }
}

fn numbers_only(value: &Value) {
    match value {
        Value::Array(list) => list.iter().for_each(numbers_only),
        Value::Object(members) => members.values().for_each(numbers_only),
        other => assert!(other.is_number() || other.is_null(), "{other}"),
    }
}
