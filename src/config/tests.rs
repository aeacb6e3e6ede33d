//! Precedence of layers, invalid settings, addresses, and what a project may set.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use std::time::Duration;

use super::*;
use crate::endpoint::{DEFAULT_BASE_URL, Region};
use crate::error::ErrorKind;

/// A home and a project in a temporary directory.
struct TestHome {
    root: tempfile::TempDir,
}

impl TestHome {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.path(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn environment(&self, trusted: bool, variables: &[(&str, &str)]) -> Environment {
        let text = |path: &Path| path.display().to_string();
        let mut all = vec![
            ("HOME".to_owned(), text(&self.path("home"))),
            ("KIMI_CODE_PROJECT".to_owned(), text(&self.path("work"))),
            ("KIMI_CODE_PROJECT_TRUSTED".to_owned(), if trusted { "1" } else { "0" }.to_owned()),
        ];
        all.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Environment::new(all.into_iter().collect())
    }
}

const HOME: &str = "home/.pi/pi-provider-kimi-code.json";
const PROJECT: &str = "work/.pi/pi-provider-kimi-code.json";

fn problems(layers: &Layers) -> Vec<String> {
    layers.problems.iter().map(ToString::to_string).collect()
}

fn config(variables: &[(&str, &str)]) -> Result<Config> {
    let map = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let addresses = RequestAddresses::of_login(Some("https://model.example/coding".to_owned()));
    Config::from_environment(&Environment::new(map), &addresses)
}

#[test]
fn layers_stronger_ones_outrank_weaker_ones_and_objects_merge() {
    let place = TestHome::new();
    place.write(HOME, r#"{"model": {"temperature": 0.1, "topP": 0.5}, "retry": {"attempts": 2}, "statusLine": false}"#);
    place.write(PROJECT, r#"{"model": {"temperature": 0.2}, "retry": {"attempts": 3}}"#);
    let variables = [("KIMI_LOOP_MAX_ATTEMPTS_PER_STEP", "4"), ("KIMI_CODE_SETTINGS", r#"{"statusLine": true}"#)];
    let layers = load(&place.environment(true, &variables));
    assert_eq!(problems(&layers), Vec::<String>::new());
    let settings = layers.settings;
    assert_eq!((settings.model.temperature, settings.model.top_p), (Some(0.2), Some(0.5)));
    assert_eq!((settings.retry.attempts, settings.retry.max_delay_ms), (4, 60_000));
    assert!(settings.status_line);
    assert!(layers.origins["model.topP"].ends_with(HOME));
    assert!(layers.origins["model.temperature"].ends_with(PROJECT));
    assert_eq!(layers.origins["retry.attempts"], "environment variable KIMI_LOOP_MAX_ATTEMPTS_PER_STEP");
    let options = ("KIMI_CODE_OPTIONS", r#"{"model": {"topP": 0.9}}"#);
    let variable = ("KIMI_CODE_SETTINGS", r#"{"model": {"temperature": 0.3, "topP": 0.4}}"#);
    let layers = load(&place.environment(true, &[variable, options]));
    assert_eq!((layers.settings.model.temperature, layers.settings.model.top_p), (Some(0.3), Some(0.9)));
    assert_eq!(layers.origins["model.topP"], "the options of the program");
}

#[test]
fn project_never_chooses_hosts_identity_or_region() {
    let place = TestHome::new();
    place.write(
        PROJECT,
        r#"{"baseUrl": "https://evil.example", "oauthHost": "https://evil.example", "identity": "kimi-code",
            "region": "global", "statusLine": false}"#,
    );
    let environment = place.environment(true, &[]);
    let layers = load(&environment);
    assert_eq!(layers.settings.base_url, None);
    assert_eq!(layers.settings.oauth_host, None);
    assert_eq!((layers.settings.identity, layers.settings.region), (Identity::Honest, RegionChoice::Auto));
    assert!(!layers.settings.status_line);
    assert_eq!(layers.problems.len(), 4);
    assert!(problems(&layers)[0].ends_with("baseUrl counts only in the home file, not in a project's"));
    assert_eq!(
        Config::from_environment(&environment, &RequestAddresses::default()).unwrap().endpoint.root(),
        DEFAULT_BASE_URL
    );
}

#[test]
fn untrusted_project_is_ignored_with_a_note() {
    let place = TestHome::new();
    place.write(PROJECT, r#"{"tools": {"moonshot_fetch": {"enabled": true}}}"#);
    let layers = load(&place.environment(false, &[]));
    assert!(!layers.settings.tool("moonshot_fetch").enabled);
    assert!(problems(&layers)[0].ends_with("is ignored, because Pi does not trust this project"));
    let layers = load(&place.environment(true, &[]));
    assert!(layers.settings.tool("moonshot_fetch").enabled);
    assert!(layers.settings.tool("moonshot_fetch").default_collapsed);
}

#[test]
fn invalid_values_are_reported_with_file_path_and_expectation_and_the_rest_applies() {
    let place = TestHome::new();
    place.write(
        HOME,
        r#"{"protocol": "grpc", "uploads": {"thresholdBytes": "2 MiB", "totalBytes": -1, "limit": 3},
            "retry": 5, "model": {"temperature": "hot", "topP": 0.5}, "colour": true, "models": {"k3": {"topP": 9}}}"#,
    );
    let layers = load(&place.environment(true, &[("KIMI_MODEL_MAX_CONTEXT_SIZE", "-4")]));
    assert_eq!(layers.settings.uploads.threshold_bytes, 2 << 20);
    assert_eq!(layers.settings.model.top_p, Some(0.5));
    let file = place.path(HOME).display().to_string();
    let expected = [
        format!("{file}: protocol is \"grpc\", expected \"openai\" or \"anthropic\""),
        format!("{file}: uploads.totalBytes is -1, expected a size in bytes, or text such as \"2 MiB\""),
        format!(
            "{file}: uploads.limit is not a setting (known here: thresholdBytes, totalBytes, inlineLimitBytes, videoMaxBytes, timeoutMs)"
        ),
        format!("{file}: retry is not an object (it may hold attempts, maxDelayMs, maxTotalMs)"),
        format!("{file}: model.temperature is \"hot\", expected a number from 0 to 2"),
    ];
    let found = problems(&layers);
    assert_eq!(found[..5], expected);
    assert!(found[5].contains("colour is not a setting (known here: protocol, region, "));
    assert!(found[6].ends_with("models.k3.topP is 9, expected a number from 0 to 1"));
    assert_eq!(
        found[7],
        "environment variable KIMI_MODEL_MAX_CONTEXT_SIZE: is \"-4\", expected a whole number of at least 1024"
    );
}

#[test]
fn file_that_is_not_json_is_reported_and_other_layers_apply() {
    let place = TestHome::new();
    place.write(HOME, "{\"retry\": {\"attempts\": 2},}");
    place.write(PROJECT, "\u{feff}{\"retry\": {\"attempts\": 3}}");
    let layers = load(&place.environment(true, &[]));
    assert_eq!(layers.settings.retry.attempts, 3);
    assert!(problems(&layers)[0].contains("is not JSON: ") && problems(&layers)[0].contains("line 1"));
    assert!(set(&place.environment(true, &[]), Scope::Home, "statusLine", &json!(false)).is_err());
    assert_eq!(place.read(HOME), "{\"retry\": {\"attempts\": 2},}");
}

#[test]
fn legacy_file_counts_until_ours_exists() {
    let place = TestHome::new();
    place.write("home/.pi/providers/kimi-coding/config.json", r#"{"tools": {"moonshot_search": {"enabled": true}}}"#);
    let environment = place.environment(true, &[]);
    assert!(load(&environment).settings.tool("moonshot_search").enabled);
    set(&environment, Scope::Home, "statusLine", &json!(false)).unwrap();
    let settings = load(&environment).settings;
    assert!(settings.tool("moonshot_search").enabled && !settings.status_line, "taken over when ours is made");
}

#[test]
fn change_keeps_everything_else_of_the_file() {
    let place = TestHome::new();
    place.write(
        HOME,
        "{\n  \"zebra\": [1, 2],\n  \"tools\": {\"moonshot_search\": {\"note\": \"mine\"}},\n  \"apple\": null\n}\n",
    );
    let environment = place.environment(true, &[]);
    set(&environment, Scope::Home, "tools.moonshot_search.enabled", &json!(true)).unwrap();
    let text = place.read(HOME);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["tools"]["moonshot_search"], json!({"note": "mine", "enabled": true}));
    assert!(text.find("zebra").unwrap() < text.find("tools").unwrap() && text.contains("\"apple\": null"), "{text}");
    set(&environment, Scope::Home, "tools.moonshot_search.enabled", &Value::Null).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&place.read(HOME)).unwrap()["tools"]["moonshot_search"],
        json!({"note": "mine"})
    );
    let left: Vec<_> = fs::read_dir(place.path("home/.pi")).unwrap().collect();
    assert_eq!(left.len(), 1, "no temporary file is left behind");
}

#[test]
fn change_to_an_invalid_value_is_refused() {
    let place = TestHome::new();
    let refused = |trusted: bool, scope: Scope, path: &str, value: Value| {
        set(&place.environment(trusted, &[]), scope, path, &value).unwrap_err().message
    };
    assert_eq!(refused(true, Scope::Project, "identity", json!("honest")), "identity counts only in the home file");
    assert_eq!(refused(false, Scope::Project, "statusLine", json!(true)), "Pi does not trust this project");
    assert_eq!(
        refused(true, Scope::Home, "statusLine", json!("on")),
        "statusLine cannot be \"on\", expected true or false"
    );
    assert_eq!(refused(true, Scope::Home, "nonsense", json!(1)), "nonsense is not a setting");
}

#[cfg(unix)]
#[test]
fn change_follows_a_link_and_an_unwritable_folder_is_an_error() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let place = TestHome::new();
    place.write("dotfiles/kimi.json", "{}");
    fs::create_dir_all(place.path("home/.pi")).unwrap();
    symlink(place.path("dotfiles/kimi.json"), place.path(HOME)).unwrap();
    set(&place.environment(true, &[]), Scope::Home, "statusLine", &json!(false)).unwrap();
    assert!(fs::symlink_metadata(place.path(HOME)).unwrap().is_symlink());
    assert!(place.read("dotfiles/kimi.json").contains("statusLine"));

    fs::create_dir_all(place.path("work/.pi")).unwrap();
    fs::set_permissions(place.path("work/.pi"), fs::Permissions::from_mode(0o500)).unwrap();
    let result = set(&place.environment(true, &[]), Scope::Project, "statusLine", &json!(false));
    // Root may write everywhere.
    if let Err(error) = result {
        assert!(error.message.contains("cannot be written"), "{}", error.message);
    }
    fs::set_permissions(place.path("work/.pi"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn variable_outranks_a_file_about_one_model() {
    let place = TestHome::new();
    place.write(HOME, r#"{"model": {"temperature": 0.3}, "models": {"k3": {"temperature": 0.6, "maxTokens": 9}}}"#);
    let overrides =
        |variables: &[(&str, &str)], model: &str| load(&place.environment(true, variables)).settings.overrides(model);
    assert_eq!(overrides(&[], "k3").temperature, Some(0.6));
    assert_eq!(overrides(&[], "k2").temperature, Some(0.3));
    let forced = overrides(&[("KIMI_MODEL_TEMPERATURE", "1")], "k3");
    assert_eq!((forced.temperature, forced.max_tokens), (Some(1.0), Some(9)));
}

#[test]
fn base_url_order_variable_file_model_entry_default() {
    let root = |variables: &[(&str, &str)]| config(variables).unwrap().endpoint.root().to_owned();
    assert_eq!(root(&[("KIMI_CODE_BASE_URL", "https://a/x"), ("KIMI_BASE_URL", "https://b")]), "https://a/x");
    assert_eq!(root(&[("KIMI_CODE_BASE_URL", " "), ("KIMI_BASE_URL", "https://b/v1")]), "https://b");
    assert_eq!(root(&[]), "https://model.example/coding");
    let none = Config::from_environment(&Environment::default(), &RequestAddresses::default()).unwrap();
    assert_eq!(none.endpoint.root(), DEFAULT_BASE_URL);
    let place = TestHome::new();
    place.write(HOME, r#"{"baseUrl": "https://file.example/coding/v1"}"#);
    let filed = Config::from_environment(
        &place.environment(true, &[]),
        &RequestAddresses::of_login(Some("https://model.example".to_owned())),
    )
    .unwrap();
    assert_eq!(filed.endpoint.root(), "https://file.example/coding");
}

#[test]
fn proxy_variables_in_either_case_are_read() {
    let network = config(&[("HTTPS_PROXY", "http://p:1"), ("all_proxy", "socks5://q:2")]).unwrap().network;
    assert_eq!(network.https_proxy.as_deref(), Some("http://p:1"));
    assert_eq!(network.all_proxy.as_deref(), Some("socks5://q:2"));
}

#[test]
fn timeouts_and_retries_default_to_the_table() {
    let config = config(&[]).unwrap();
    assert_eq!(config.limits, TimeoutLimits::default());
    assert_eq!(config.retry, Settings::default().retry_policy(false));
}

#[test]
fn timeouts_in_milliseconds_zero_means_no_limit() {
    let limits = config(&[("KIMI_CODE_GAP_TIMEOUT_MS", "0"), ("KIMI_CODE_FIRST_TIMEOUT_MS", "1500")]).unwrap().limits;
    assert_eq!(limits.idle_text, None);
    assert_eq!(limits.first_long, Some(Duration::from_millis(1500)));
}

#[test]
fn thinking_keep_off_is_not_sent() {
    let keep = |variables: &[(&str, &str)]| config(variables).unwrap().settings.thinking("k3").keep;
    assert_eq!(keep(&[]).as_deref(), Some("all"));
    assert_eq!(keep(&[("KIMI_MODEL_THINKING_KEEP", "off")]), None);
    assert_eq!(keep(&[("KIMI_MODEL_THINKING_KEEP", "last")]).as_deref(), Some("last"));
}

#[test]
fn output_cap_of_zero_or_less_means_none() {
    let cap = |text: &str| {
        config(&[("KIMI_MODEL_MAX_COMPLETION_TOKENS", text)]).unwrap().settings.max_completion_tokens("k3")
    };
    assert_eq!(cap("0"), None);
    assert_eq!(cap("-1"), None);
    assert_eq!(cap("9"), Some(9));
}

#[test]
fn region_is_chosen_by_name_and_outranked_by_hosts() {
    let of = |variables: &[(&str, &str)]| {
        let map = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::from_environment(&Environment::new(map), &RequestAddresses::default()).unwrap()
    };
    assert!(of(&[]).region_is_open);
    let global = of(&[("KIMI_CODE_REGION", "global")]);
    assert_eq!(global.endpoint.region(), Some(Region::Global));
    assert!(!global.region_is_open);
    let custom = of(&[("KIMI_CODE_REGION", "global"), ("KIMI_BASE_URL", "http://127.0.0.1:1/coding")]);
    assert_eq!(custom.endpoint.root(), "http://127.0.0.1:1/coding");
    assert!(of(&[("KIMI_CODE_REGION", "mars")]).region_is_open, "reported by load, and ignored");
}

/// Everything that names an address, in the order in which it counts.
fn from_layers(home: &TestHome, variables: &[(&str, &str)], addresses: &RequestAddresses) -> Result<Config> {
    Config::from_environment(&home.environment(true, variables), addresses)
}

#[test]
fn address_order_program_variable_models_json_home_login_default() {
    let place = TestHome::new();
    let program = ("KIMI_CODE_SETTINGS", r#"{"baseUrl": "https://program.example"}"#);
    let variable = ("KIMI_CODE_BASE_URL", "https://variable.example");
    let addresses = |models_json: bool, login: bool| RequestAddresses {
        models_json_base_url: models_json.then(|| "https://models-json.example/v1".to_owned()),
        base_url: login.then(|| "https://login.example".to_owned()),
    };
    let root = |variables: &[(&str, &str)], models_json: bool, login: bool| {
        let config = from_layers(&place, variables, &addresses(models_json, login)).unwrap();
        (config.endpoint.root().to_owned(), config.login_endpoint.root().to_owned())
    };
    let both = |root: &str| (root.to_owned(), root.to_owned());
    place.write(HOME, r#"{"baseUrl": "https://home.example"}"#);
    assert_eq!(root(&[program, variable], true, true), both("https://program.example"));
    assert_eq!(root(&[variable], true, true), both("https://variable.example"));
    // models.json moves requests, and leaves the login where it is.
    assert_eq!(root(&[], true, true), ("https://models-json.example".to_owned(), "https://home.example".to_owned()));
    assert_eq!(root(&[], false, true), both("https://home.example"));
    place.write(HOME, "{}");
    assert_eq!(root(&[], true, true), ("https://models-json.example".to_owned(), "https://login.example".to_owned()));
    assert_eq!(root(&[], false, true), both("https://login.example"));
    assert_eq!(root(&[], false, false), both(DEFAULT_BASE_URL));
}

#[test]
fn address_of_models_json_stays_when_a_login_is_found() {
    let place = TestHome::new();
    let models_json =
        RequestAddresses { models_json_base_url: Some("http://127.0.0.1:8787/coding".to_owned()), base_url: None };
    let mut config = from_layers(&place, &[], &models_json).unwrap();
    assert!(config.region_is_open, "the login decides the region of its own requests");
    config.follow_login(&Endpoint::of_region(Region::Global));
    assert_eq!(config.endpoint.root(), "http://127.0.0.1:8787/coding");
    assert_eq!(config.login_endpoint.region(), Some(Region::Global));
    let mut config = from_layers(&place, &[], &RequestAddresses::default()).unwrap();
    config.follow_login(&Endpoint::of_region(Region::Global));
    assert_eq!(config.endpoint.region(), Some(Region::Global));
}

#[test]
fn address_unusable_where_it_counts_is_a_config_error_that_names_the_layer() {
    let bad =
        ["kimi", "ftp://kimi.example", "https://me:hunter2@kimi.example", "http://", "https://[", "//kimi.example", ""];
    for bad in bad {
        for key in ["baseUrl", "oauthHost"] {
            let place = TestHome::new();
            let failed = |variables: &[(&str, &str)], addresses: &RequestAddresses, layer: &str| {
                let error = from_layers(&place, variables, addresses).expect_err(layer);
                assert_eq!(error.kind, ErrorKind::Config, "{layer} {bad}");
                assert!(error.message.contains(layer), "{layer} {bad}: {}", error.message);
                assert!(!error.message.contains("hunter2"), "{}", error.message);
            };
            let none = RequestAddresses::default();
            let json = json!({ key: bad }).to_string();
            failed(&[("KIMI_CODE_SETTINGS", &json)], &none, "KIMI_CODE_SETTINGS: ");
            let variables = if key == "baseUrl" {
                ["KIMI_CODE_BASE_URL", "KIMI_BASE_URL"]
            } else {
                ["KIMI_CODE_OAUTH_HOST", "KIMI_OAUTH_HOST"]
            };
            // A blank variable or member counts as unset, as everywhere.
            for variable in variables.iter().filter(|_| !bad.is_empty()) {
                failed(&[(variable, bad)], &none, &format!("environment variable {variable}: "));
            }
            if key == "baseUrl" && !bad.is_empty() {
                let addresses = RequestAddresses { models_json_base_url: Some(bad.to_owned()), base_url: None };
                failed(&[], &addresses, "models.json: ");
                failed(&[], &RequestAddresses::of_login(Some(bad.to_owned())), "the login or Pi's model entry: ");
            }
            place.write(HOME, &json);
            failed(&[], &none, HOME);
            // A stronger layer that is usable has the last word; the bad one is reported like any bad setting.
            let environment = place.environment(true, &[(variables[0], "https://kimi.example")]);
            assert!(Config::from_environment(&environment, &none).is_ok(), "{bad}");
            let found = problems(&load(&environment));
            assert!(found.len() == 1 && found[0].contains(key) && !found[0].contains("hunter2"), "{found:?}");
        }
    }
}

#[test]
fn address_in_a_file_that_is_not_json_is_a_config_error() {
    let place = TestHome::new();
    place.write(HOME, "{\"baseUrl\": \"https://kimi.example\",,}");
    let error = from_layers(&place, &[], &RequestAddresses::default()).unwrap_err();
    assert!(error.kind == ErrorKind::Config && error.message.contains(HOME), "{}", error.message);
    assert!(from_layers(&place, &[("KIMI_BASE_URL", "https://b.example")], &RequestAddresses::default()).is_ok());
    let error =
        from_layers(&place, &[("KIMI_CODE_SETTINGS", "{baseUrl: 5}")], &RequestAddresses::default()).unwrap_err();
    assert!(error.message.starts_with("KIMI_CODE_SETTINGS: is not JSON"), "{}", error.message);
    // Options beside it that name no address do not answer the question.
    let beside = [("KIMI_CODE_SETTINGS", "{baseUrl: 5}"), ("KIMI_CODE_OPTIONS", r#"{"statusLine": false}"#)];
    assert!(from_layers(&place, &beside, &RequestAddresses::default()).is_err());
    let named = [("KIMI_CODE_SETTINGS", "{baseUrl: 5}"), ("KIMI_CODE_OPTIONS", r#"{"baseUrl": "https://p.example"}"#)];
    assert!(from_layers(&place, &named, &RequestAddresses::default()).is_ok());
}

#[test]
fn address_of_a_project_neither_counts_nor_fails() {
    let place = TestHome::new();
    place.write(PROJECT, r#"{"baseUrl": "nonsense", "oauthHost": "nonsense"}"#);
    let config = from_layers(&place, &[], &RequestAddresses::default()).unwrap();
    assert_eq!(config.endpoint.root(), DEFAULT_BASE_URL);
}

#[test]
fn project_values_are_clamped_and_reported() {
    let place = TestHome::new();
    place.write(
        PROJECT,
        r#"{"limits": {"connectMs": 1, "headersMs": 10, "firstMs": 999, "gapMs": 0, "thinkingGapMs": 5000},
            "retry": {"attempts": 1000, "maxDelayMs": 86400000}, "uploads": {"timeoutMs": 1}}"#,
    );
    for (attempts, delay, expected) in [("1000", "86400000", (20, 600_000)), ("3", "0", (3, 600_000))] {
        place.write(
            "work/.pi/pi-provider-kimi-code.json",
            &format!(
                r#"{{"limits": {{"connectMs": 1, "headersMs": 10, "firstMs": 999, "gapMs": 0, "thinkingGapMs": 5000}},
                    "retry": {{"attempts": {attempts}, "maxDelayMs": {delay}}}, "uploads": {{"timeoutMs": 1}}}}"#
            ),
        );
        let layers = load(&place.environment(true, &[]));
        let Settings { limits, retry, uploads, .. } = &layers.settings;
        assert_eq!((limits.connect_ms, limits.headers_ms, limits.first_ms), (1000, 1000, Some(1000)));
        assert_eq!((limits.gap_ms, limits.thinking_gap_ms, uploads.timeout_ms), (0, 5000, 1000));
        assert_eq!((retry.attempts, retry.max_delay_ms), expected);
        assert!(problems(&layers).iter().any(|problem| problem.contains("counts as 1000 in a project")));
    }
    place.write(HOME, r#"{"limits": {"headersMs": 10}, "retry": {"attempts": 50}}"#);
    place.write(PROJECT, "{}");
    let settings = load(&place.environment(true, &[])).settings;
    assert_eq!((settings.limits.headers_ms, settings.retry.attempts), (10, 50), "the home file is the user's own");
}

#[test]
fn untrusted_project_sets_only_what_the_screen_shows() {
    let place = TestHome::new();
    place.write(
        PROJECT,
        r#"{"statusLine": false, "tools": {"moonshot_search": {"enabled": true, "default_collapsed": false}},
            "model": {"maxTokens": 5}, "retry": {"attempts": 20}, "unknown": 1}"#,
    );
    let layers = load(&place.environment(false, &[]));
    let Settings { status_line, model, retry, .. } = &layers.settings;
    let tool = layers.settings.tool("moonshot_search");
    assert!(!status_line && !tool.default_collapsed && !tool.enabled);
    assert_eq!((model.max_tokens, retry.attempts), (None, 10));
    let found = problems(&layers);
    assert_eq!(found.len(), 4);
    assert!(found[3].ends_with("unknown is not a setting"), "{found:?}");
    for key in KEYS.iter().filter(|key| key.scope == SettingScope::AnyProject) {
        assert!(key.path == "statusLine" || key.path.ends_with(".default_collapsed"), "{} costs something", key.path);
    }
}

#[test]
fn untrusted_project_with_mistakes_is_reported_in_one_line_each() {
    let place = TestHome::new();
    let found = |text: &str| {
        place.write(PROJECT, text);
        let file = place.path(PROJECT).display().to_string();
        let found = problems(&load(&place.environment(false, &[])));
        found.into_iter().map(|problem| problem.replace(&file, "file")).collect::<Vec<_>>()
    };
    assert_eq!(found(r#"{"colour": 1}"#), ["file: colour is not a setting"]);
    assert_eq!(
        found(r#"{"a": {"b": 1}, "tools": {"x": {"enabled": true}}, "retry": 5, "statusLine": true}"#),
        ["file: a is not a setting, nor are 2 more names in this file"]
    );
    for broken in ["{ \"baseUrl\": broken", "[]"] {
        let found = found(broken);
        assert!(found.len() == 1 && found[0].starts_with("file: is not "), "{found:?}");
    }
    let long = "x".repeat(5000);
    assert!(found(&json!({ (long): 1 }).to_string())[0].len() < 200);
}

#[test]
fn broken_file_of_a_project_leaves_the_address_of_the_home_file_alone() {
    let place = TestHome::new();
    place.write(HOME, r#"{"baseUrl": "https://home.example"}"#);
    place.write(PROJECT, "{ \"baseUrl\": broken");
    for trusted in [true, false] {
        let environment = place.environment(trusted, &[]);
        let config = Config::from_environment(&environment, &RequestAddresses::default()).unwrap();
        assert_eq!(config.endpoint.root(), "https://home.example");
        assert_eq!(load(&environment).settings.base_url.as_deref(), Some("https://home.example"));
    }
}

#[test]
fn reserve_counts_under_every_name_of_its_window() {
    let place = TestHome::new();
    place.write(HOME, r#"{"quota": {"reserve": {"wk": 10, "5H": 5, "Mo": 3, "weekend": 7, "sunday": null}}}"#);
    let environment = place.environment(true, &[]);
    let layers = load(&environment);
    let reserve = layers.settings.quota.reserve.into_iter().collect::<Vec<_>>();
    assert_eq!(reserve, [("5h".to_owned(), 5.0), ("7d".to_owned(), 10.0), ("month".to_owned(), 3.0)]);
    assert!(layers.origins.contains_key("quota.reserve.7d"), "{:?}", layers.origins);
    let found: Vec<String> = layers.problems.iter().map(|one| format!("{} {}", one.path, one.message)).collect();
    assert_eq!(found, ["quota.reserve.weekend names no quota window (known: 5h, 7d or wk, month or mo)"]);

    // A change replaces every spelling.
    set(&environment, Scope::Home, "quota.reserve.WK", &json!(20)).unwrap();
    set(&environment, Scope::Home, "quota.reserve.5h", &Value::Null).unwrap();
    let file: Value = serde_json::from_str(&place.read(HOME)).unwrap();
    assert_eq!(file["quota"]["reserve"], json!({"Mo": 3, "weekend": 7, "sunday": null, "7d": 20}));
    let error = set(&environment, Scope::Home, "quota.reserve.weekend", &json!(1)).unwrap_err();
    assert_eq!(error.message, "quota.reserve.weekend names no quota window (known: 5h, 7d or wk, month or mo)");
    assert_eq!(setting_path("quota.reserve.wk").unwrap(), "quota.reserve.7d");
    assert_eq!(setting_path("models.k3.1-pro.topP").unwrap(), "models.k3.1-pro.topP");
    assert!(setting_path("nonsense").is_err());
}

#[test]
fn documents_describe_every_key_and_every_variable() {
    let read = |file: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let (settings, variables) = (read("docs/settings.md"), read("docs/ENV.md"));
    for key in KEYS.iter().filter(|key| !key.path.contains('*')) {
        let (group, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        let tool = group.starts_with("tools.").then(|| format!("`tools.<name>.{name}`"));
        let spellings = [Some(format!("`{}`", key.path)), Some(format!("`.{name}`")), tool];
        assert!(spellings.into_iter().flatten().any(|name| settings.contains(&name)), "{}", key.path);
        for variable in key.variables {
            assert!(variables.contains(&format!("`{variable}`")), "{variable}");
        }
    }
}
