//! Which layer has the last word, what a bad setting costs, and what a project may not decide.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use std::time::Duration;

use super::*;
use crate::endpoint::{DEFAULT_BASE_URL, Region};

/// A home and a project in a directory that goes away.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
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
fn each_layer_outranks_the_one_below_it_and_objects_merge() {
    let place = Place::new();
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
}

#[test]
fn a_project_never_chooses_hosts_identity_or_region() {
    let place = Place::new();
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
fn an_untrusted_project_is_ignored_with_a_note() {
    let place = Place::new();
    place.write(PROJECT, r#"{"tools": {"moonshot_fetch": {"enabled": true}}}"#);
    let layers = load(&place.environment(false, &[]));
    assert!(!layers.settings.tool("moonshot_fetch").enabled);
    assert!(problems(&layers)[0].ends_with("is ignored, because Pi does not trust this project"));
    let layers = load(&place.environment(true, &[]));
    assert!(layers.settings.tool("moonshot_fetch").enabled);
    assert!(layers.settings.tool("moonshot_fetch").default_collapsed);
}

#[test]
fn bad_values_name_file_path_and_expectation_and_the_rest_applies() {
    let place = Place::new();
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
        format!("{file}: retry is not an object (it may hold attempts, maxDelayMs)"),
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
fn a_file_that_is_not_json_costs_only_itself() {
    let place = Place::new();
    place.write(HOME, "{\"retry\": {\"attempts\": 2},}");
    place.write(PROJECT, "\u{feff}{\"retry\": {\"attempts\": 3}}");
    let layers = load(&place.environment(true, &[]));
    assert_eq!(layers.settings.retry.attempts, 3);
    assert!(problems(&layers)[0].contains("is not JSON: ") && problems(&layers)[0].contains("line 1"));
    assert!(set(&place.environment(true, &[]), Scope::Home, "statusLine", &json!(false)).is_err());
    assert_eq!(place.read(HOME), "{\"retry\": {\"attempts\": 2},}");
}

#[test]
fn the_typescript_extensions_file_counts_until_ours_exists() {
    let place = Place::new();
    place.write("home/.pi/providers/kimi-coding/config.json", r#"{"tools": {"moonshot_search": {"enabled": true}}}"#);
    let environment = place.environment(true, &[]);
    assert!(load(&environment).settings.tool("moonshot_search").enabled);
    set(&environment, Scope::Home, "statusLine", &json!(false)).unwrap();
    let settings = load(&environment).settings;
    assert!(settings.tool("moonshot_search").enabled && !settings.status_line, "taken over when ours is made");
}

#[test]
fn a_change_keeps_everything_else_of_the_file() {
    let place = Place::new();
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
fn a_change_that_makes_no_sense_is_refused() {
    let place = Place::new();
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
fn a_linked_file_stays_a_link_and_an_unwritable_home_is_an_error_only() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let place = Place::new();
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
fn a_variable_outranks_what_a_file_says_about_one_model() {
    let place = Place::new();
    place.write(HOME, r#"{"model": {"temperature": 0.3}, "models": {"k3": {"temperature": 0.6, "maxTokens": 9}}}"#);
    let overrides =
        |variables: &[(&str, &str)], model: &str| load(&place.environment(true, variables)).settings.overrides(model);
    assert_eq!(overrides(&[], "k3").temperature, Some(0.6));
    assert_eq!(overrides(&[], "k2").temperature, Some(0.3));
    let forced = overrides(&[("KIMI_MODEL_TEMPERATURE", "1")], "k3");
    assert_eq!((forced.temperature, forced.max_tokens), (Some(1.0), Some(9)));
}

#[test]
fn the_base_url_comes_from_the_environment_then_the_file_then_the_model_then_the_default() {
    let root = |variables: &[(&str, &str)]| config(variables).unwrap().endpoint.root().to_owned();
    assert_eq!(root(&[("KIMI_CODE_BASE_URL", "https://a/x"), ("KIMI_BASE_URL", "https://b")]), "https://a/x");
    assert_eq!(root(&[("KIMI_CODE_BASE_URL", " "), ("KIMI_BASE_URL", "https://b/v1")]), "https://b");
    assert_eq!(root(&[]), "https://model.example/coding");
    let none = Config::from_environment(&Environment::default(), &RequestAddresses::default()).unwrap();
    assert_eq!(none.endpoint.root(), DEFAULT_BASE_URL);
    let place = Place::new();
    place.write(HOME, r#"{"baseUrl": "https://file.example/coding/v1"}"#);
    let filed = Config::from_environment(
        &place.environment(true, &[]),
        &RequestAddresses::of_login(Some("https://model.example".to_owned())),
    )
    .unwrap();
    assert_eq!(filed.endpoint.root(), "https://file.example/coding");
}

#[test]
fn proxies_are_found_in_either_case() {
    let network = config(&[("HTTPS_PROXY", "http://p:1"), ("all_proxy", "socks5://q:2")]).unwrap().network;
    assert_eq!(network.https_proxy.as_deref(), Some("http://p:1"));
    assert_eq!(network.all_proxy.as_deref(), Some("socks5://q:2"));
}

#[test]
fn clocks_and_retries_default_to_what_their_own_modules_say() {
    let config = config(&[]).unwrap();
    assert_eq!(config.limits, TimeoutLimits::default());
    assert_eq!(config.retry, RetryPolicy::default());
}

#[test]
fn clocks_are_set_in_milliseconds_and_switched_off_with_zero() {
    let limits = config(&[("KIMI_CODE_GAP_TIMEOUT_MS", "0"), ("KIMI_CODE_FIRST_TIMEOUT_MS", "1500")]).unwrap().limits;
    assert_eq!(limits.idle_text, None);
    assert_eq!(limits.first_long, Some(Duration::from_millis(1500)));
}

#[test]
fn keeping_earlier_reasoning_can_be_switched_off() {
    let keep = |variables: &[(&str, &str)]| config(variables).unwrap().settings.thinking("k3").keep;
    assert_eq!(keep(&[]).as_deref(), Some("all"));
    assert_eq!(keep(&[("KIMI_MODEL_THINKING_KEEP", "off")]), None);
    assert_eq!(keep(&[("KIMI_MODEL_THINKING_KEEP", "last")]).as_deref(), Some("last"));
}

#[test]
fn a_cap_of_zero_or_less_means_none() {
    let cap = |text: &str| {
        config(&[("KIMI_MODEL_MAX_COMPLETION_TOKENS", text)]).unwrap().settings.max_completion_tokens("k3")
    };
    assert_eq!(cap("0"), None);
    assert_eq!(cap("-1"), None);
    assert_eq!(cap("9"), Some(9));
}

#[test]
fn a_region_is_chosen_by_name_and_outranked_by_hosts() {
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
